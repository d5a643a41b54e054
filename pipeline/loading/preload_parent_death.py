"""Loaded first by a fork server that is a program of its own: the server then ends with the process that started it.

Decode workers end with the fork server, so nothing outlives a killed run.
"""

import os

from models.system.parent_death import die_with_parent
from models.system.process_state import name_process
from pipeline.loading.fork_server import FORK_SERVER_NAME

# Before the imports of decode workers, which may take seconds in which the parent may be killed.
die_with_parent(os.getppid())
name_process(FORK_SERVER_NAME)
