"""Traffic that the operator does not want at the products' endpoints and at sign-ins."""

from __future__ import annotations

from sidecar.model import Headers, IPAddress
from sidecar.settings import TrafficGuard as TrafficGuardSettings
from sidecar.trust import contains


class TrafficGuard:
    """Denies by the client's network and by parts of its User-Agent."""

    def __init__(self, settings: TrafficGuardSettings) -> None:
        self._networks = settings.deny_networks
        self._user_agents = tuple(part.casefold() for part in settings.deny_user_agents)

    def denies(self, headers: Headers, client: IPAddress) -> bool:
        """Whether this request is unwanted. One without a User-Agent is not."""
        if contains(self._networks, client):
            return True
        if not self._user_agents:
            return False
        agent = b"\n".join(headers.all(b"user-agent")).decode("utf-8", "replace").casefold()
        return any(part in agent for part in self._user_agents)
