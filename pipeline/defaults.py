"""The defaults of reading photos, said once for command lines, job files, tuning and the pipeline itself.

Nothing is imported, so that a command line can show the defaults before numpy is imported.
"""

from __future__ import annotations

DEFAULT_PHOTO_TIMEOUT_S = 60.0
DEFAULT_MAX_PIXELS = 200_000_000
DEFAULT_MAX_BYTES = 1 << 30
