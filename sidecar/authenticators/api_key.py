"""API keys of local users: in X-Api-Key, or as a bearer that starts with sk_."""

from __future__ import annotations

from math import inf

from sidecar.credentials import API_KEY_PREFIX, id_of_secret
from sidecar.model import Credential, Form, Identity, IPAddress, Reason, Rejected, Verified
from sidecar.ports import ApiKeyStore, Clock, Users
from sidecar.usage import UsageRecorder


class ApiKeyAuthenticator:
    """The user that a key belongs to, with the key's own scopes."""

    name = "api_key"
    forms = frozenset({Form.API_KEY, Form.BEARER})
    cookies: tuple[bytes, ...] = ()

    def __init__(self, api_keys: ApiKeyStore, users: Users, clock: Clock) -> None:
        self._api_keys = api_keys
        self._users = users
        self._clock = clock

    async def authenticate(self, credential: Credential, _client: IPAddress) -> Verified | Rejected | None:
        """See Authenticator.authenticate."""
        if not credential.value.startswith(API_KEY_PREFIX.encode("ascii")):
            return None if credential.form is Form.BEARER else Rejected(Reason.UNKNOWN_KEY)
        return await self.by_id(id_of_secret(credential.value))

    async def by_id(self, credential_id: str) -> Verified | Rejected:
        """Whose key has this id."""
        key = await self._api_keys.find(credential_id)
        if key is None:
            return Rejected(Reason.UNKNOWN_KEY)
        expires_at = inf if key.expires_at is None else key.expires_at
        if self._clock.now() >= expires_at:
            return Rejected(Reason.KEY_EXPIRED)
        user = await self._users.find(key.user_id)
        if user is None or user.disabled:
            return Rejected(Reason.USER_DISABLED)
        identity = Identity.of_user(user, self.name, scopes=key.scopes, key_id=key.id, expires_at=expires_at)
        return Verified(identity, user, key, UsageRecorder.of_key(key))
