"""The composition root: settings in, wired parts out. Nothing else makes stores or authenticators."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import structlog

from sidecar.apps import DisabledApps
from sidecar.authentication import Authentication
from sidecar.authenticators.api_key import ApiKeyAuthenticator
from sidecar.authenticators.basic import BasicAuthenticator
from sidecar.authenticators.session import SessionAuthenticator
from sidecar.caching import IdentityCache, RememberedTokens, RememberedUsers
from sidecar.checks.authing import Authing
from sidecar.checks.cargo_extra import CargoExtra
from sidecar.checks.compass import Compass
from sidecar.checks.dialect import Dialect
from sidecar.checks.pulse import Pulse
from sidecar.checks.virola import Virola
from sidecar.clock import SystemClock
from sidecar.cookies import SessionCookie
from sidecar.errors import StoreUnavailable
from sidecar.gateways import GATEWAYS
from sidecar.identity_headers import IdentityHeaders
from sidecar.keys import KeyRing
from sidecar.limiting import RequestLimits
from sidecar.management import ManagementClients
from sidecar.passwords import Passwords
from sidecar.pipeline import Pipeline
from sidecar.policy import Policy
from sidecar.ports import Authenticator, Clock, Store, Users
from sidecar.redirects import Redirects
from sidecar.revocation import Revocations
from sidecar.sessions import Sessions
from sidecar.settings import Settings
from sidecar.sign_in import SignIn
from sidecar.stores import open_store
from sidecar.telemetry import Metrics
from sidecar.traffic import TrafficGuard
from sidecar.trust import TrustedProxies
from sidecar.usage import UsageRecorder
from sidecar.visits import Visits
from sidecar.web.admin import admin_app
from sidecar.web.check import CheckEndpoint
from sidecar.web.documented import Desk, DocumentedChecks, with_cors
from sidecar.web.entrance import ASGIApp, Entrance
from sidecar.web.forms import CrossSiteGuard, OwnOrigins
from sidecar.web.login import LoginPages
from sidecar.web.openapi import openapi_document
from sidecar.web.pages import Pages
from sidecar.web.site import site
from sidecar.web.tokens import token_routes

_IDLE_SESSIONS_KEPT = 2
"""Idle timeouts after which an unused session is deleted: later than it is refused, so that one whose
use could not be written for a while is not lost."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Services:
    """What the server and the command line both work with."""

    settings: Settings
    clock: Clock
    metrics: Metrics
    store: Store
    revocations: Revocations
    keys: KeyRing
    sessions: Sessions
    passwords: Passwords


@asynccontextmanager
async def services(
    settings: Settings, clock: Clock | None = None, passwords: Passwords | None = None
) -> AsyncIterator[Services]:
    """Opens the store and makes what works on it; who signs tokens starts the keys.

    Raises StoreUnusable, StoreUnavailable.
    """
    clock = clock or SystemClock()
    passwords = passwords or Passwords()
    metrics = Metrics()
    backend = urlsplit(settings.store.url).scheme
    store = open_store(settings.store.url, observe=metrics.store_observer(backend))
    try:
        revocations = Revocations(store.changes, clock)
        keys = KeyRing(store.signing_keys, revocations, clock, settings.tokens)
        sessions = Sessions(store.sessions, keys, clock, settings.session)
        yield Services(settings, clock, metrics, store, revocations, keys, sessions, passwords)
    finally:
        passwords.close()
        await store.close()


class Application:
    """The two ASGI applications, and what they need done in the background."""

    def __init__(self, parts: Services) -> None:
        self.is_draining = False
        self._parts = parts
        self.auth, dialects = _auth_listener(parts)
        self.admin: ASGIApp = admin_app(
            parts.metrics.registry,
            parts.store,
            lambda: self.is_draining,
            partial(openapi_document, dialects, parts.settings),
        )
        parts.metrics.config_loaded.set(1)
        parts.metrics.config_loaded_at.set(parts.clock.now())

    async def purge(self) -> None:
        """Deletes what has expired. An outage is logged: there is a next time."""
        store, now = self._parts.store, self._parts.clock.now()
        unused_since = now - _IDLE_SESSIONS_KEPT * self._parts.settings.session.idle_timeout
        try:
            sessions = await store.sessions.purge(now=now, unused_since=unused_since)
            api_keys = await store.api_keys.purge(now=now)
            access_keys = await store.access_keys.purge(now=now)
            signing_keys = await store.signing_keys.purge(now=now)
            nonces = await store.nonces.purge(now=now)
        except StoreUnavailable as error:
            log.warning("purge_failed", error=str(error))
            return
        log.debug(
            "purged",
            sessions=sessions,
            api_keys=api_keys,
            access_keys=access_keys,
            signing_keys=signing_keys,
            nonces=nonces,
        )


def _auth_listener(parts: Services) -> tuple[Entrance, list[Dialect]]:
    """What listens, and the products whose endpoints are among it."""
    settings, store, clock, metrics = parts.settings, parts.store, parts.clock, parts.metrics
    limits = RequestLimits(settings.limits, clock, metrics)
    sign_in = SignIn(store.users, parts.passwords, limits, metrics)
    users = RememberedUsers(store.users, parts.revocations, metrics)
    usage = UsageRecorder(store, settings.session.touch_interval)
    identity_headers = IdentityHeaders(settings.identity_headers)
    trusted = TrustedProxies(settings.server.trusted_proxies)
    redirects = Redirects(settings.login.public_url, settings.login.allowed_redirects, settings.login.url)
    cookie = SessionCookie(settings.session)
    by_session = SessionAuthenticator(
        sessions=store.sessions,
        users=users,
        keys=parts.keys,
        usage=usage,
        clock=clock,
        idle_timeout=settings.session.idle_timeout,
    )
    authenticators = _authenticators(parts, by_session, users, sign_in)
    authentication = Authentication(
        authenticators, IdentityCache(parts.revocations, metrics), parts.revocations, identity_headers
    )
    pipeline = Pipeline(
        trusted=trusted,
        client_ip_hops=settings.server.client_ip_hops,
        policy=Policy(settings.rules, {name: each.forms for name, each in authenticators.items()}),
        authentication=authentication,
        disabled_apps=DisabledApps(store.apps, parts.revocations),
        revocations=parts.revocations,
        usage=usage,
        clock=clock,
        identity_headers=identity_headers,
        redirects=redirects,
        cookie=cookie,
    )
    visits = Visits(
        authentication=authentication,
        by_session=by_session,
        sign_in=sign_in,
        sessions=parts.sessions,
        session_store=store.sessions,
        tokens=RememberedTokens(parts.revocations, metrics),
        revocations=parts.revocations,
        usage=usage,
        cookie=cookie,
        clock=clock,
        metrics=metrics,
    )
    traffic = TrafficGuard(settings.traffic_guard)
    pages = Pages(urlsplit(settings.login.public_url).path)
    login = LoginPages(
        pages=pages,
        visits=visits,
        cookie=cookie,
        guard=CrossSiteGuard(settings.session, OwnOrigins(settings.login.public_url)),
        traffic=traffic,
        redirects=redirects,
        trusted=trusted,
        client_ip_hops=settings.server.client_ip_hops,
    )
    checks = {
        f"/check/{name}": CheckEndpoint(gateway, pipeline, clock, metrics)
        for name, gateway in GATEWAYS.items()
    }
    desk = Desk(
        trusted=trusted,
        client_ip_hops=settings.server.client_ip_hops,
        traffic=traffic,
        limits=limits,
        own_origins=OwnOrigins(settings.login.public_url, settings.checks.allowed_origins),
    )
    dialects = _dialects(parts, visits, usage, limits)
    documented = DocumentedChecks(dialects, desk, metrics)
    entrance = Entrance(
        checks,
        with_cors(documented, settings.checks.allowed_origins),
        documented.find,
        site([*login.routes(), *token_routes(parts.keys)], pages),
        metrics,
    )
    return entrance, dialects


def _dialects(parts: Services, visits: Visits, usage: UsageRecorder, limits: RequestLimits) -> list[Dialect]:
    """Those that are enabled."""
    settings = parts.settings
    checks = settings.checks
    authing = Authing(
        ManagementClients(parts.store, parts.keys, limits, usage, parts.clock),
        parts.store,
        usage,
        parts.clock,
        rule_apps=frozenset(rule.app for rule in settings.rules),
        idle_timeout=settings.session.idle_timeout,
        hide_unknown=checks.authing.hide_unknown,
    )
    all_of_them: list[tuple[bool, Dialect]] = [
        (checks.cargo_extra.enabled, CargoExtra(visits, settings.session)),
        (checks.compass.enabled, Compass(visits, checks.compass.roles)),
        (checks.pulse.enabled, Pulse(visits)),
        (checks.virola.enabled, Virola(visits, settings.session)),
        (checks.authing.enabled, authing),
    ]
    return [dialect for enabled, dialect in all_of_them if enabled]


def _authenticators(
    parts: Services, by_session: SessionAuthenticator, users: Users, sign_in: SignIn
) -> dict[str, Authenticator]:
    settings = parts.settings.authenticators
    built: list[Authenticator] = [
        by_session,
        ApiKeyAuthenticator(parts.store.api_keys, users, parts.clock),
        BasicAuthenticator(sign_in, parts.revocations, settings.basic.cache),
    ]
    enabled = settings.enabled()
    return {each.name: each for each in built if each.name in enabled}
