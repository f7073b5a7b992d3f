"""Access rules: which one a request falls under, and what that rule demands of an identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cachetools import LRUCache

from sidecar.errors import RequestRefused
from sidecar.hosts import HostPattern
from sidecar.model import Form, Host, Identity, IPAddress, OriginalRequest, Reason, RequestPath
from sidecar.paths import PathPattern
from sidecar.ports import Authenticator
from sidecar.settings import RuleSettings
from sidecar.settings.types import Network
from sidecar.trust import contains

_MOST_SELECTED = 4096
_LONGEST_PATH = 256
"""Requests whose rule is remembered, and characters of a path: what was asked for is asked for again."""

Selector = Literal["hosts", "paths", "methods", "networks"]


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One rule, ready to be asked. Empty selectors select everything, empty demands demand nothing.

    No two are equal, whatever they say: each has its own place among the others.
    """

    name: str
    hosts: tuple[HostPattern, ...]
    paths: tuple[PathPattern, ...]
    methods: frozenset[str]
    networks: tuple[Network, ...]
    access: str
    authenticators: frozenset[str]
    forms: frozenset[Form]
    own_cookie: bool
    others_cookies: tuple[Sequence[bytes], ...]
    roles: frozenset[str]
    permissions: frozenset[str]
    accounts: frozenset[str]
    scopes: frozenset[str]
    app: str
    login_url: str
    allow_encoded_slash: bool
    allow_preflight: bool

    @classmethod
    def of(cls, settings: RuleSettings, position: int, enabled: Mapping[str, Authenticator]) -> Rule:
        """`enabled`: every authenticator that there is, by name."""
        vouching = [each for name, each in enabled.items() if name in (settings.authenticators or enabled)]
        taken = frozenset[Form]().union(*(each.forms for each in vouching))
        return cls(
            name=settings.name or f"rules[{position}]",
            hosts=tuple(HostPattern.parse(host) for host in settings.hosts),
            paths=settings.paths,
            methods=frozenset(settings.methods),
            networks=settings.networks,
            access=settings.access,
            authenticators=frozenset(each.name for each in vouching),
            forms=taken & frozenset(settings.credentials or taken),
            own_cookie=any(Form.COOKIE in each.forms and not each.cookies for each in vouching),
            others_cookies=tuple(each.cookies for each in vouching if each.cookies),
            roles=frozenset(settings.roles),
            permissions=frozenset(settings.permissions),
            accounts=frozenset(settings.accounts),
            scopes=frozenset(settings.scopes),
            app=settings.app,
            login_url=settings.login_url,
            allow_encoded_slash=settings.allow_encoded_slash,
            allow_preflight=settings.allow_preflight,
        )

    def misfit(self, request: OriginalRequest, path: str) -> Selector | None:
        """The selector that passes the request over, read as having this path; None: it is selected."""
        if self.hosts and not any(pattern.matches(request.host) for pattern in self.hosts):
            return "hosts"
        if self.paths and not any(pattern.matches(path) for pattern in self.paths):
            return "paths"
        if self.methods and request.method not in self.methods:
            return "methods"
        if self.networks and not contains(self.networks, request.client):
            return "networks"
        return None

    def refusal(self, identity: Identity) -> Reason | None:
        """What this identity lacks, or None where it may pass."""
        if self.roles and self.roles.isdisjoint(identity.roles):
            return Reason.MISSING_ROLE
        if self.permissions and self.permissions.isdisjoint(identity.permissions):
            return Reason.MISSING_PERMISSION
        if self.accounts and self.accounts.isdisjoint(account.id for account in identity.accounts):
            return Reason.MISSING_ACCOUNT
        if not self.scopes.issubset(identity.scopes):
            return Reason.MISSING_SCOPE
        return None


class Policy:
    """The rules in their order."""

    def __init__(self, rules: Iterable[RuleSettings], enabled: Mapping[str, Authenticator]) -> None:
        self.rules = tuple(Rule.of(rule, position, enabled) for position, rule in enumerate(rules))
        self._selected: LRUCache[tuple[str, Host, RequestPath, str], Rule | None] = LRUCache(_MOST_SELECTED)
        self._networks = tuple({rule.networks: None for rule in self.rules if rule.networks})

    def class_of(self, client: IPAddress) -> str:
        """The same for all clients that no rule tells apart."""
        if not self._networks:
            return ""
        return "".join("1" if contains(networks, client) else "0" for networks in self._networks)

    def select(self, request: OriginalRequest) -> Rule | None:
        """The first rule that selects the request.

        Raises RequestRefused (ambiguous_path) for an encoded slash, unless the same rule is first
        whether or not that slash separates segments, and allows it.
        """
        if len(self.rules) == 1 or len(request.path.text) > _LONGEST_PATH:
            return self._select(request)
        key = (request.method, request.host, request.path, self.class_of(request.client))
        if key not in self._selected:
            self._selected[key] = self._select(request)
        return self._selected[key]

    def _select(self, request: OriginalRequest) -> Rule | None:
        rule = self._first(request, request.path.text)
        if request.path.split is None:
            return rule
        if why := self._two_readings(rule, self._first(request, request.path.split)):
            raise RequestRefused(Reason.AMBIGUOUS_PATH, f"%2F is in the path, and {why}")
        return rule

    @staticmethod
    def _two_readings(rule: Rule | None, split: Rule | None) -> str:
        """Why an encoded slash is not let pass; empty where it is."""
        if rule is None:
            return "no rule selects it"
        if not rule.allow_encoded_slash:
            return f"allow_encoded_slash of {rule.name} is off"
        if rule is not split:
            return f"{rule.name} does not select it where that separates segments"
        return ""

    def _first(self, request: OriginalRequest, path: str) -> Rule | None:
        for rule in self.rules:
            if rule.misfit(request, path) is None:
                return rule
        return None
