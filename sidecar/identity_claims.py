"""What tokens and answers of ours say of an identity, as JSON."""

from __future__ import annotations

from typing import Any

from sidecar.model import Identity


def identity_claims(identity: Identity) -> dict[str, Any]:
    """The claims, by the names that OpenID Connect Core 1.0 (5.1) and RFC 8693 (4.2) have for them.

    What the identity does not have is left out; roles and permissions are always there. `user_id` is a local
    user's alone: another system's subject may look the same.
    """
    texts = {
        "preferred_username": identity.username,
        "name": identity.name,
        "email": identity.email,
        "account": identity.account,
        "scope": _scope(identity.scopes),
        "sid": identity.session_id,
        "key_id": identity.key_id,
        "method": identity.method,
    }
    claims: dict[str, Any] = {
        "sub": identity.subject,
        **{name: text for name, text in texts.items() if text},
        "roles": list(identity.roles),
        "permissions": list(identity.permissions),
    }
    return claims if identity.user_id is None else {**claims, "user_id": identity.user_id}


def _scope(scopes: tuple[str, ...]) -> str:
    """In one text. One that has whitespace in it would be read as two, and is left out."""
    return " ".join(scope for scope in scopes if scope.split() == [scope])
