"""What the fork server loads first where it is a program of its own: it ends with the process that started it.

The decoders die with it, so nothing outlives a killed run.
"""

import os

from models.system.parent_death import die_with_parent

# Before all other imports, which may take seconds in which the parent may be killed.
die_with_parent(os.getppid())
