"""The product, remembering one identity and one user only: nearly every check looks up both.

`python -m bench.programs.forgetful serve …`, as `python -m sidecar serve …`
"""

from __future__ import annotations

from sidecar import caching
from sidecar.cli import main

if __name__ == "__main__":
    caching.MOST_IDENTITIES = 1
    caching.MOST_USERS = 1
    main(prog_name="sidecar")
