"""What a person at a terminal sees while thumbnails are made."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def thumbnail_bar(is_enabled: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a function that takes how many thumbnails are made, and of how many; no bar where stderr is no terminal."""
    from tqdm import tqdm

    tqdm.monitor_interval = 0
    is_hidden = not is_enabled or not sys.stderr.isatty()
    with tqdm(unit=" thumbnails", dynamic_ncols=True, leave=False, file=sys.stderr, disable=is_hidden) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
