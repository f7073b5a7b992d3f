"""The composition root: settings in, wired parts out. Nothing else makes stores or authenticators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Self
from urllib.parse import urlsplit

import structlog

from sidecar.apps import DisabledApps
from sidecar.assertions import AssertionReader, Assertions
from sidecar.audit import Audit, UnwrittenAudit
from sidecar.authentication import Authentication
from sidecar.authenticators.api_key import ApiKeyAuthenticator
from sidecar.authenticators.basic import BasicAuthenticator
from sidecar.authenticators.session import SessionAuthenticator
from sidecar.caching import IdentityCache, RememberedTokens, RememberedUsers
from sidecar.checks.authing import Authing
from sidecar.checks.cargo_extra import CargoExtra
from sidecar.checks.compass import Compass
from sidecar.checks.dialect import Dialect
from sidecar.checks.oauth import OAuth
from sidecar.checks.pulse import Pulse
from sidecar.checks.virola import COOKIE as VIROLA_COOKIE
from sidecar.checks.virola import Virola
from sidecar.clock import SystemClock
from sidecar.cookies import Cookie, SessionCookie
from sidecar.elsewhere import Elsewhere
from sidecar.errors import StoreUnavailable
from sidecar.gateways import GATEWAYS
from sidecar.identity_headers import IdentityHeaders
from sidecar.keys import KeyRing
from sidecar.limiting import RequestLimits
from sidecar.management import ManagementClients
from sidecar.passwords import Passwords
from sidecar.pipeline import READS, Pipeline
from sidecar.policy import Policy
from sidecar.ports import Authenticator, Clock, Store
from sidecar.redirects import Redirects
from sidecar.replays import Replays
from sidecar.revocation import Revocations
from sidecar.sessions import Sessions
from sidecar.settings import Settings
from sidecar.sign_in import SignIn
from sidecar.stores import open_store
from sidecar.telemetry import Metrics
from sidecar.traffic import TrafficGuard
from sidecar.trust import TrustedProxies
from sidecar.usage import UnwrittenUses, UsageRecorder
from sidecar.visits import Visits
from sidecar.web.admin import admin_app
from sidecar.web.check import CheckEndpoint
from sidecar.web.documented import Admission, DocumentedChecks
from sidecar.web.entrance import ASGIApp, Entrance
from sidecar.web.forms import CrossSiteGuard
from sidecar.web.login import LoginPages
from sidecar.web.openapi import openapi_document
from sidecar.web.origins import OwnOrigins, with_cors
from sidecar.web.pages import Pages
from sidecar.web.site import site
from sidecar.web.tokens import token_routes

_IDLE_SESSIONS_KEPT = 2
"""Idle timeouts after which an unused session is deleted: later than it is refused, so that one whose
use could not be written for a while is not lost."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Services:
    """What the server and the command line both work with. `exposition` is what a scrape gets."""

    settings: Settings
    clock: Clock
    metrics: Metrics
    store: Store
    revocations: Revocations
    keys: KeyRing
    sessions: Sessions
    passwords: Passwords
    usage: UsageRecorder
    audit: Audit
    exposition: Callable[[], bytes]


@asynccontextmanager
async def services(
    settings: Settings,
    clock: Clock | None = None,
    passwords: Passwords | None = None,
    *,
    read_only: bool = False,
) -> AsyncIterator[Services]:
    """Opens the store and makes what works on it; who signs tokens starts the keys.

    With `read_only` nothing is ever written, no use is noted and nothing recorded.
    Raises StoreUnusable, StoreUnavailable.
    """
    clock = clock or SystemClock()
    passwords = passwords or Passwords()
    metrics = Metrics()
    backend = urlsplit(settings.store.url).scheme
    store = open_store(settings.store.url, read_only=read_only, observe=metrics.store_observer(backend))
    try:
        revocations = Revocations(store.changes, clock)
        keys = _key_ring(settings, store, revocations, clock)
        sessions = Sessions(store.sessions, keys, clock, settings.session)
        usage = (UnwrittenUses if read_only else UsageRecorder)(store, settings.session.touch_interval)
        audit = (UnwrittenAudit if read_only else Audit)(settings.audit, clock, metrics)
        yield Services(
            settings=settings,
            clock=clock,
            metrics=metrics,
            store=store,
            revocations=revocations,
            keys=keys,
            sessions=sessions,
            passwords=passwords,
            usage=usage,
            audit=audit,
            exposition=metrics.exposition,
        )
    finally:
        passwords.close()
        await store.close()


def with_settings(parts: Services, settings: Settings) -> Services:
    """The same services under other settings. The store, the clock, and what was counted and noted stay."""
    keys = _key_ring(settings, parts.store, parts.revocations, parts.clock)
    sessions = Sessions(parts.store.sessions, keys, parts.clock, settings.session)
    usage = parts.usage.with_interval(settings.session.touch_interval)
    return replace(parts, settings=settings, keys=keys, sessions=sessions, usage=usage)


def _key_ring(settings: Settings, store: Store, revocations: Revocations, clock: Clock) -> KeyRing:
    lifetime = settings.identity_assertion.lifetime
    return KeyRing(store.signing_keys, revocations, clock, settings.tokens, lifetime)


class Application:
    """The two ASGI applications, and what they need done in the background. To be used as a context."""

    def __init__(self, parts: Services) -> None:
        self.is_draining = False
        self._parts = parts
        listener = _AuthListener(parts)
        self.auth = listener.app()
        self.replays = listener.replays
        self._elsewhere = listener.elsewhere
        self._limits = listener.limits
        self.admin: ASGIApp = admin_app(
            parts.exposition,
            parts.store,
            lambda: self.is_draining,
            partial(openapi_document, listener.dialects, parts.settings),
        )
        parts.metrics.config_loaded.set(1)
        parts.metrics.config_loaded_at.set(parts.clock.now())

    async def __aenter__(self) -> Self:
        self._elsewhere.start()
        await self._limits.load()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._elsewhere.close()
        await self.save()

    @property
    def systems(self) -> frozenset[str]:
        """The names of other systems that vouch for users."""
        return self._elsewhere.names

    def start_after(self, before: Application) -> None:
        """Begins where another one has served until now. What both have counted counts in both.

        Caches begin empty: what is in those of the other one was true under its own settings.
        """
        self._limits.go_on_from(before._limits)
        self._elsewhere.start()

    async def end(self) -> None:
        """For when nothing more is asked: ends what it has in the background after its last answer."""
        await self.auth.idle()
        await self._elsewhere.close()

    async def save(self) -> None:
        """Writes what was counted in memory. An outage is logged: there is a next time."""
        await self._limits.save()

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
            counters = await store.counters.purge(now=now)
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
            counters=counters,
        )


@asynccontextmanager
async def pipeline_alone(parts: Services) -> AsyncIterator[Pipeline]:
    """What decides the application's checks, for a process that serves none."""
    listener = _AuthListener(parts)
    listener.elsewhere.start()
    try:
        yield listener.pipeline
    finally:
        await listener.elsewhere.close()


class _AuthListener:
    """The parts behind the auth listener, each made once from those before it."""

    def __init__(self, parts: Services) -> None:
        settings, store, clock, metrics = parts.settings, parts.store, parts.clock, parts.metrics
        self._parts = parts
        self.limits = RequestLimits(settings.limits, store.counters, parts.audit, clock, metrics)
        self.traffic = TrafficGuard(settings.traffic_guard)
        self.usage = parts.usage
        self.cookie = SessionCookie(settings.session)
        self.virola_cookie = Cookie(VIROLA_COOKIE, settings.session)
        self.trusted = TrustedProxies(settings.server.trusted_proxies)
        self.redirects = Redirects(
            settings.login.public_url, settings.login.allowed_redirects, settings.login.url
        )
        self.identity_headers = IdentityHeaders(settings.identity_headers)
        self.users = RememberedUsers(store.users, parts.revocations, metrics)
        self.sign_in = SignIn(store.users, parts.passwords, self.limits, parts.audit, metrics)
        self.by_session = SessionAuthenticator(
            sessions=store.sessions,
            users=self.users,
            keys=parts.keys,
            usage=self.usage,
            clock=clock,
            idle_timeout=settings.session.idle_timeout,
        )
        self.by_api_key = ApiKeyAuthenticator(store.api_keys, self.users, clock)
        own = self._own_authenticators()
        self.elsewhere = Elsewhere(
            settings.authenticators.external, own, parts.keys.claims_to_be_ours, clock, metrics
        )
        # Whose tokens say so comes first: that is seen at a glance. Whoever has to be asked comes last.
        self.authenticators = {**self.elsewhere.issuers, **own, **self.elsewhere.asked}
        self.authentication = Authentication(
            self.authenticators,
            IdentityCache(parts.revocations, metrics),
            parts.revocations,
            self.identity_headers,
        )
        self.visits = self._visits()
        self.clients = ManagementClients(store, parts.keys, self.limits, self.usage, parts.audit, clock)
        self.dialects = self._enabled_dialects()
        self.pipeline = self._pipeline()
        self.replays = self._replays()

    def app(self) -> Entrance:
        """All of it as one ASGI application."""
        settings, metrics = self._parts.settings, self._parts.metrics
        # At debug every check is logged, so that every one has to be decided.
        gives_again = settings.server.http == "express" and settings.log.level != "debug"
        replays = self.replays if gives_again else None
        checks = {
            f"/check/{name}": CheckEndpoint(gateway, self.pipeline, self._parts.clock, metrics, replays)
            for name, gateway in GATEWAYS.items()
        }
        prefixes = [f"/check/{name}" for name, gateway in GATEWAYS.items() if gateway.takes_targets]
        documented = DocumentedChecks(
            [*self.dialects, self._oauth()], self._admission(), self._parts.audit, metrics
        )
        pages = Pages(urlsplit(settings.login.public_url).path)
        routes = [*self._login_pages(pages).routes(), *token_routes(self._parts.keys)]
        return Entrance(
            checks,
            prefixes,
            with_cors(documented, settings.checks.allowed_origins),
            documented.find,
            site(routes, pages),
            metrics,
        )

    def _own_authenticators(self) -> dict[str, Authenticator]:
        parts, settings = self._parts, self._parts.settings.authenticators
        built: list[Authenticator] = [
            self.by_session,
            self.by_api_key,
            BasicAuthenticator(self.sign_in, parts.revocations, settings.basic.cache),
        ]
        enabled = settings.enabled()
        return {each.name: each for each in built if each.name in enabled}

    def _enabled_dialects(self) -> list[Dialect]:
        parts, settings, checks = self._parts, self._parts.settings, self._parts.settings.checks
        dialects: list[Dialect] = []
        if checks.cargo_extra.enabled:
            dialects.append(CargoExtra(self.visits, settings.session))
        if checks.compass.enabled:
            dialects.append(Compass(self.visits, checks.compass.roles))
        if checks.pulse.enabled:
            dialects.append(Pulse(self.visits))
        if checks.virola.enabled:
            dialects.append(Virola(self.visits, self.virola_cookie))
        if checks.authing.enabled:
            dialects.append(
                Authing(
                    self.clients,
                    parts.store,
                    self.usage,
                    parts.clock,
                    rule_apps=frozenset(rule.app for rule in settings.rules),
                    idle_timeout=settings.session.idle_timeout,
                    hide_unknown=checks.authing.hide_unknown,
                )
            )
        return dialects

    def _oauth(self) -> OAuth:
        parts = self._parts
        assertions = AssertionReader(parts.keys, self.by_session, self.by_api_key, self.users)
        return OAuth(self.visits, self.clients, assertions, parts.settings.tokens)

    def _visits(self) -> Visits:
        parts = self._parts
        return Visits(
            authentication=self.authentication,
            vouching=frozenset(parts.settings.checks.authenticators),
            by_session=self.by_session,
            sign_in=self.sign_in,
            sessions=parts.sessions,
            session_store=parts.store.sessions,
            tokens=RememberedTokens(parts.revocations, parts.metrics),
            revocations=parts.revocations,
            usage=self.usage,
            cookie=self.cookie,
            other_cookies=[self.virola_cookie] if parts.settings.checks.virola.enabled else [],
            audit=parts.audit,
            clock=parts.clock,
            metrics=parts.metrics,
        )

    def _pipeline(self) -> Pipeline:
        parts, settings = self._parts, self._parts.settings
        assertions = self._assertions()
        return Pipeline(
            trusted=self.trusted,
            client_ip_hops=settings.server.client_ip_hops,
            policy=Policy(settings.rules, self.authenticators),
            authentication=self.authentication,
            disabled_apps=DisabledApps(parts.store.apps, parts.revocations),
            revocations=parts.revocations,
            usage=self.usage,
            audit=parts.audit,
            clock=parts.clock,
            assertions=assertions,
            anonymous=(*self.identity_headers.anonymous, *(assertions.anonymous if assertions else ())),
            redirects=self.redirects,
            cookie=self.cookie,
        )

    def _replays(self) -> Replays:
        parts, settings = self._parts, self._parts.settings
        return Replays(
            {gateway: gateway.reads | READS for gateway in GATEWAYS.values()},
            parts.revocations,
            parts.clock,
            parts.metrics,
            settings.server.header_limit,
            settings.server.replay_memory,
        )

    def _assertions(self) -> Assertions | None:
        parts, settings = self._parts, self._parts.settings.identity_assertion
        if not settings.enabled:
            return None
        return Assertions(settings.header, parts.keys, parts.revocations, parts.metrics)

    def _admission(self) -> Admission:
        settings = self._parts.settings
        return Admission(
            trusted=self.trusted,
            client_ip_hops=settings.server.client_ip_hops,
            traffic=self.traffic,
            limits=self.limits,
            own_origins=OwnOrigins(settings.login.public_url, settings.checks.allowed_origins),
        )

    def _login_pages(self, pages: Pages) -> LoginPages:
        settings = self._parts.settings
        return LoginPages(
            pages=pages,
            visits=self.visits,
            guard=CrossSiteGuard(settings.session, OwnOrigins(settings.login.public_url)),
            traffic=self.traffic,
            redirects=self.redirects,
            trusted=self.trusted,
            client_ip_hops=settings.server.client_ip_hops,
        )
