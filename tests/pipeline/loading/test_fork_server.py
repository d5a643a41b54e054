"""What the fork server of decode workers does when its parent ends at an odd moment."""

from __future__ import annotations

import subprocess
import sys

_CONNECTS_AND_SENDS_NOTHING = """
import os, socket
# numpy starts no threads then, and the server can be forked, as in the commands.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy
from multiprocessing import forkserver
from pipeline.loading.fork_server import start_fork_server
from pipeline.loading.loader_kind import LoaderKind
start_fork_server(LoaderKind.PIPES)
server = forkserver._forkserver
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(server._forkserver_address)
os.waitpid(server._forkserver_pid, 0)
"""


def test_a_parent_that_ends_before_it_asks_for_a_worker_leaves_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CONNECTS_AND_SENDS_NOTHING], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
