"""Who stands behind a credential: remembered, or asked of those who may vouch."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

from sidecar.caching import LONGEST_CREDENTIAL, IdentityCache, Known
from sidecar.errors import IssuerUnavailable, UpstreamThrottled, UpstreamUnavailable
from sidecar.identity_headers import IdentityHeaders
from sidecar.model import Credential, IPAddress, Reason, Rejected, Verified
from sidecar.ports import Authenticator
from sidecar.revocation import Revocations


@dataclass(frozen=True, slots=True)
class Authentication:
    """Asks the authenticators that take a credential's form, in their order, and remembers what they say.

    What is `remembered` is there without waiting: look at it first.
    """

    authenticators: Mapping[str, Authenticator]
    cache: IdentityCache
    revocations: Revocations
    identity_headers: IdentityHeaders

    def remembered(
        self, credential: Credential, among: Container[str], now: float
    ) -> Known | Rejected | None:
        """What one of the authenticators `among` these names said, where that is still true."""
        return self.cache.get(credential, among, now)

    async def identify(
        self, credential: Credential, among: Container[str], client: IPAddress, now: float
    ) -> Known | Rejected:
        """The first answer of the authenticators `among` these names, by the revocations' last look.

        Where one that asks another system cannot, the next may know the credential: its own outage touches
        nobody else's users. A token says who issued it: where that one's keys are not to be had, it is shown
        to nobody else. Raises what Authenticator.authenticate raises.
        """
        outage: UpstreamUnavailable | UpstreamThrottled | None = None
        for name, authenticator in self.authenticators.items():
            if name not in among or credential.form not in authenticator.forms:
                continue
            generation = self.revocations.generation
            try:
                answer = await authenticator.authenticate(credential, client)
            except IssuerUnavailable:
                raise
            except (UpstreamUnavailable, UpstreamThrottled) as error:
                outage = outage or error
                continue
            if isinstance(answer, Verified):
                headers = self.identity_headers.render(answer.identity)
                cacheable = answer.cacheable if len(credential.value) <= LONGEST_CREDENTIAL else 0.0
                until = min(answer.identity.expires_at, now + cacheable)
                known = Known(answer, headers, name, generation, until)
                self.cache.put(credential, known, now)
                return known
            if answer is not None:
                return answer
        if outage is not None:
            raise outage
        return Rejected(Reason.UNKNOWN_CREDENTIAL)
