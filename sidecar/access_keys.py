"""The secrets of access keys, which are derived and not stored.

A management client signs its requests with HMAC instead of sending its secret along. Who verifies such a
request needs the secret itself: a hash of it, as it is kept of sessions and API keys, would not do. So the
store keeps one random root, under `ROOT`, and every secret follows from the root and the key's id. A row of
the table alone then opens nothing, and a removed row ends its key as it does for the others.
"""

from __future__ import annotations

import base64
import hmac
import secrets

ROOT = "access-keys"
"""The name of the root in `Store.secret`."""

_PREFIX = "ak_"
_ID_BYTES = 16


def new_access_key_id() -> str:
    """A random id, recognisable by its prefix. It opens nothing."""
    return _PREFIX + secrets.token_hex(_ID_BYTES)


def access_key_secret(root: bytes, key_id: str) -> str:
    """The secret of the key with this id: 256 bits, as a header can carry them."""
    digest = hmac.digest(root, key_id.encode("utf-8"), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
