"""Authenticators of other systems, made from their settings, and what they need begun and ended."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from sidecar.answers import Answers
from sidecar.asking import Asker
from sidecar.authenticators.introspection import IntrospectionAuthenticator
from sidecar.authenticators.jwt import JwtAuthenticator
from sidecar.authenticators.upstream import SessionElsewhereAuthenticator, UpstreamAuthenticator
from sidecar.breaker import Breaker
from sidecar.checks.asking_dialect import AskingDialect
from sidecar.checks.authing_asking import AskingAuthing
from sidecar.checks.cargo_extra import AskingCargoExtra
from sidecar.checks.compass import AskingCompass
from sidecar.checks.generic import AskingGeneric
from sidecar.checks.pulse import AskingPulse
from sidecar.checks.virola import AskingVirola
from sidecar.errors import InvalidValue
from sidecar.fetched_keys import FetchedKeys
from sidecar.jwks import FIXED, FixedKeys, KeySet, fixed_keys
from sidecar.ports import Authenticator, Clock
from sidecar.settings import (
    AskingSettings,
    Contradiction,
    ExternalSettings,
    IntrospectionSettings,
    JwtSettings,
    Settings,
    UpstreamSettings,
)
from sidecar.settings.external import Breaker as BreakerSettings
from sidecar.telemetry import Metrics

_KEYS_WITHIN = 5.0
"""Seconds for fetching an issuer's keys: nobody waits for that but at the start, and after a new key."""

_NEVER = sys.maxsize
"""Faults that open the circuit to an issuer's keys: fetches are far enough apart as it is."""

_ASKING: Mapping[str, type[AskingDialect]] = {
    "cargo-extra": AskingCargoExtra,
    "compass": AskingCompass,
    "pulse": AskingPulse,
    "virola": AskingVirola,
    "generic": AskingGeneric,
}


def unusable_keys(settings: Settings) -> Iterator[Contradiction]:
    """The keys of issuers, in the settings or in files, with which nothing can be verified."""
    for name, each in settings.authenticators.external.items():
        if isinstance(each, JwtSettings) and each.enabled:
            for key in FIXED:
                if why := _unusable(each, key):
                    keys = (f"authenticators.{name}.{key}", f"authenticators.{name}.algorithms")
                    yield Contradiction(keys, why)


def _unusable(settings: JwtSettings, key: str) -> str:
    try:
        if getattr(settings, key):
            fixed_keys(settings, key)
    except InvalidValue as error:
        return str(error)
    return ""


class Elsewhere:
    """The authenticators of other systems that are enabled.

    The tokens of `issuers` say whose they are. About everything else those that are `asked` are asked, in the
    order of the settings; `is_ours` says which tokens we issued ourselves, which are shown to nobody.
    """

    def __init__(
        self,
        settings: Mapping[str, ExternalSettings],
        own: Mapping[str, Authenticator],
        is_ours: Callable[[bytes], bool],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._own = own
        self._is_ours = is_ours
        self._clock = clock
        self._metrics = metrics
        self._keys: list[KeySet] = []
        self._answers: list[Answers] = []
        self._authing: list[AskingAuthing] = []
        self._askers: list[Asker] = []
        self._made: dict[str, Authenticator] = {}
        enabled = [name for name, each in settings.items() if each.enabled]
        for name in enabled:
            self._make(name)
        self.issuers = {name: self._made[name] for name in enabled if isinstance(settings[name], JwtSettings)}
        self.asked = {name: self._made[name] for name in enabled if name not in self.issuers}

    @property
    def names(self) -> frozenset[str]:
        """Of those that were made."""
        return frozenset(self._made)

    def start(self) -> None:
        """Begins what takes time, and waits for nothing: a system that is down keeps nobody from starting."""
        for keys in self._keys:
            keys.start()

    async def close(self) -> None:
        """Ends whatever is under way."""
        for keys in self._keys:
            await keys.close()
        for answers in self._answers:
            await answers.close()
        for asking in self._authing:
            await asking.close()
        for asker in self._askers:
            await asker.close()

    def _make(self, name: str) -> Authenticator:
        """Once, and before those that are over it."""
        if name not in self._made:
            self._made[name] = self._new(name, self._settings[name])
        return self._made[name]

    def _new(self, name: str, settings: ExternalSettings) -> Authenticator:
        match settings:
            case JwtSettings():
                return JwtAuthenticator(settings, name, keys=self._key_set(name, settings), clock=self._clock)
            case IntrospectionSettings():
                asker, answers = self._asked(name, settings)
                return IntrospectionAuthenticator(
                    name=name,
                    settings=settings,
                    asker=asker,
                    answers=answers,
                    clock=self._clock,
                    is_ours=self._is_ours,
                )
            case UpstreamSettings(dialect="authing"):
                return self._over_another(name, settings)
            case UpstreamSettings():
                asker, answers = self._asked(name, settings)
                return UpstreamAuthenticator(
                    name=name,
                    settings=settings,
                    asking=_ASKING[settings.dialect](settings),
                    asker=asker,
                    answers=answers,
                    clock=self._clock,
                    is_ours=self._is_ours,
                )

    def _over_another(self, name: str, settings: UpstreamSettings) -> Authenticator:
        over = self._own.get(settings.over) or self._make(settings.over)
        external = self._settings.get(settings.over)
        asker, answers = self._asked(name, settings)
        asking = AskingAuthing(settings, name, asker, self._clock)
        self._authing.append(asking)
        return SessionElsewhereAuthenticator(
            name=name,
            over=over,
            prefix=external.subject_prefix if external else "",
            asking=asking,
            answers=answers,
        )

    def _key_set(self, name: str, settings: JwtSettings) -> KeySet:
        keys: KeySet
        if settings.jwks_url or settings.is_discovered:
            asker = self._asker(name, _KEYS_WITHIN, BreakerSettings(faults=_NEVER), settings.ca_file)
            keys = FetchedKeys(settings, name, asker=asker, metrics=self._metrics, clock=self._clock)
        else:
            keys = FixedKeys(settings, name)
        self._keys.append(keys)
        return keys

    def _asked(self, name: str, settings: AskingSettings) -> tuple[Asker, Answers]:
        """Who asks about credentials, and what remembers the answers."""
        asker = self._asker(name, settings.timeout, settings.breaker, settings.ca_file)
        answers = Answers(
            name,
            cache=settings.cache,
            negative_cache=settings.negative_cache,
            stale_if_error=settings.stale_if_error,
            refuse=asker.refuse,
            clock=self._clock,
            metrics=self._metrics,
        )
        self._answers.append(answers)
        return asker, answers

    def _asker(self, name: str, timeout: float, breaker: BreakerSettings, ca_file: str) -> Asker:
        asker = Asker(
            name=name,
            timeout=timeout,
            breaker=Breaker(name, faults=breaker.faults, open_for=breaker.open, clock=self._clock),
            metrics=self._metrics,
            clock=self._clock,
            ca_file=Path(ca_file) if ca_file else None,
        )
        self._askers.append(asker)
        return asker
