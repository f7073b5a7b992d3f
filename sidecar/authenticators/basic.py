"""Local users by `Authorization: Basic` (RFC 7617), for scripts that cannot do better."""

from __future__ import annotations

from sidecar.caching import SingleFlight
from sidecar.credentials import name_and_password
from sidecar.model import Credential, Form, Identity, IPAddress, Reason, Rejected, Verified
from sidecar.records import User
from sidecar.revocation import Revocations
from sidecar.sign_in import SignIn


class BasicAuthenticator:
    """The user whose name and password these are. A right answer is remembered for `cache` seconds."""

    name = "basic"
    forms = frozenset({Form.BASIC})
    cookies: tuple[bytes, ...] = ()

    def __init__(self, sign_in: SignIn, revocations: Revocations, cache: float) -> None:
        self._sign_in = sign_in
        self._revocations = revocations
        self._cache = cache
        self._flights: SingleFlight[User | Rejected] = SingleFlight()

    async def authenticate(self, credential: Credential, client: IPAddress) -> Verified | Rejected | None:
        """See Authenticator.authenticate."""
        name, password = name_and_password(credential.value)
        if not name or not password:
            return Rejected(Reason.MALFORMED_CREDENTIAL)
        # A page asks for a dozen things at once, with one password: it is hashed for all of them that know
        # of the same changes. Who knows of a later one does not join those who do not.
        user = await self._flights.run(
            (credential.value, client, self._revocations.generation),
            lambda: self._sign_in.verify(name, password, client),
        )
        if isinstance(user, Rejected):
            return user
        return Verified(Identity.of_user(user, self.name), user, cacheable=self._cache)
