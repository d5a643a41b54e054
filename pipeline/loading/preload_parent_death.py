"""Loaded first by a fork server that is a program of its own: the server then ends with the process that started it.

Decode workers end with the fork server, so nothing outlives a killed run.
"""

import os

from models.system.parent_death import die_with_parent

# Before all other imports, which may take seconds in which the parent may be killed.
die_with_parent(os.getppid())
