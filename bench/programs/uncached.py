"""The product, remembering one identity only, so that nearly every check looks its session up in the store.

`python -m bench.programs.uncached serve …`, as `python -m sidecar serve …`
"""

from __future__ import annotations

from sidecar import caching
from sidecar.cli import main

if __name__ == "__main__":
    caching.MOST_IDENTITIES = 1
    main(prog_name="sidecar")
