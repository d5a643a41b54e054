"""What the kernel says of a process is read while processes and threads come and go."""

from __future__ import annotations

import threading

from models.system.process_state import has_one_thread


def test_threads_that_end_while_they_are_counted_are_no_error() -> None:
    stop = threading.Event()

    def start_and_join() -> None:
        while not stop.is_set():
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()

    coming_and_going = [threading.Thread(target=start_and_join) for _ in range(4)]
    for thread in coming_and_going:
        thread.start()
    try:
        answers = {has_one_thread() for _ in range(300)}
    finally:
        stop.set()
        for thread in coming_and_going:
            thread.join()

    assert answers == {False}
