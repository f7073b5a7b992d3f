"""The product, remembering one identity only, so that nearly every check asks the store.

`python -m bench.uncached serve …`, as `python -m sidecar serve …`
"""

from __future__ import annotations

from sidecar import caching
from sidecar.cli import main

if __name__ == "__main__":
    caching.MOST_ENTRIES = 1
    main(prog_name="sidecar")
