"""What does not go together, within a section and between sections: the sidecar does not start with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from sidecar.model import Form
from sidecar.settings.external import ExternalSettings, UpstreamSettings
from sidecar.settings.model import Checks, RuleSettings, Settings
from sidecar.settings.section import Contradiction, Section

FORMS: Mapping[str, frozenset[Form]] = {
    "session": frozenset({Form.COOKIE, Form.BEARER}),
    "api_key": frozenset({Form.API_KEY, Form.BEARER}),
    "basic": frozenset({Form.BASIC}),
}
"""The forms that our own authenticators take. They say so themselves, on a floor above: a test compares."""

PRODUCT_PATHS: Mapping[str, str] = {
    "cargo_extra": "/api/v1/user/",
    "compass": "/auth/validate-session/",
    "pulse": "/auth/",
    "virola": "/api/v1/",
    "authing": "/api/v3/",
}
"""Below which a product of [checks] answers everything. They say so themselves: a test compares."""

_FORMS_OF_HEADERS = {"Authorization": Form.BEARER, "X-Api-Key": Form.API_KEY}
_DECIDE_FORMS = ("dialect", "forward_cookies", "forward_headers", "over")


def contradictions(settings: Settings) -> Iterator[Contradiction]:
    """All of them."""
    for path, section in _sections(settings):
        for keys, message in section.contradictions():
            yield Contradiction(tuple(f"{path}.{key}" for key in keys), message)
    yield from _pages_among_products(settings)
    yield from _over_nobody(settings)
    yield from _our_cookie_from_elsewhere(settings)
    yield from _products_without_authenticator(settings)
    if settings.identity_assertion.enabled:
        yield from _assertions_for_nobody(settings)
    for position, rule in enumerate(settings.rules):
        yield from _not_enabled(f"rules[{position}].authenticators", rule.authenticators, settings)
        yield from _never_satisfied(f"rules[{position}]", rule, settings)


def forms_of(name: str, settings: Settings) -> frozenset[Form]:
    """The forms of credentials that an authenticator takes; none where there is no such authenticator."""
    external = settings.authenticators.external
    over = over_of(external[name]) if name in external else ""
    match external.get(over or name):
        case None:
            return FORMS.get(over or name, frozenset())
        case UpstreamSettings() as each:
            forms = frozenset(_FORMS_OF_HEADERS[header] for header in each.forwarded_headers)
            return forms | {Form.COOKIE} if each.forwarded_cookies else forms
        case _:
            return frozenset({Form.BEARER})


def over_of(settings: ExternalSettings) -> str:
    """The authenticator that says who it is, where this one only knows who has a session."""
    return settings.over if isinstance(settings, UpstreamSettings) else ""


def _sections(settings: Settings) -> Iterator[tuple[str, Section]]:
    for name in Settings.model_fields:
        yield from _sections_of(name, getattr(settings, name))


def _sections_of(path: str, value: object) -> Iterator[tuple[str, Section]]:
    """The sections that are here, and within each other."""
    if isinstance(value, Section):
        yield path, value
        for name, inner in value:
            yield from _sections_of(f"{path}.{name}", inner)
    elif isinstance(value, tuple):
        for position, inner in enumerate(value):
            yield from _sections_of(f"{path}[{position}]", inner)


def _over_nobody(settings: Settings) -> Iterator[Contradiction]:
    external = settings.authenticators.external
    for name, each in external.items():
        over = over_of(each)
        key = f"authenticators.{name}.over"
        if over:
            yield from _not_enabled(key, (over,), settings)
        if over in external and over_of(external[over]):
            yield Contradiction((key, f"authenticators.{over}.over"), f"{over!r} is over another itself")


def _our_cookie_from_elsewhere(settings: Settings) -> Iterator[Contradiction]:
    ours = settings.session.cookie
    for name, each in settings.authenticators.external.items():
        if not isinstance(each, UpstreamSettings):
            continue
        for key, cookies in (
            ("forward_cookies", each.forwarded_cookies),
            ("pass_cookies", each.pass_cookies),
        ):
            if ours in cookies:
                yield Contradiction(
                    (f"authenticators.{name}.{key}", "session.cookie_name", "session.cookie_domain"),
                    f"{ours} is the cookie of our own session: set session.cookie_name",
                )


def _assertions_for_nobody(settings: Settings) -> Iterator[Contradiction]:
    header, enabled = settings.identity_assertion.header, "identity_assertion.enabled"
    if header.lower() in map(str.lower, settings.identity_headers):
        yield Contradiction(
            ("identity_assertion.header", "identity_headers", enabled),
            f"{header} is one of the identity_headers already",
        )
    if settings.tokens.algorithm == "HS256":
        yield Contradiction(
            ("tokens.algorithm", enabled),
            "no application can verify HS256, whose key is not published: with identity_assertion, choose "
            "another",
        )


def _pages_among_products(settings: Settings) -> Iterator[Contradiction]:
    page = f"{urlsplit(settings.login.public_url).path}/login"
    for name, below in PRODUCT_PATHS.items():
        if page.startswith(below) and getattr(settings.checks, name).enabled:
            yield Contradiction(
                ("login.public_url", f"checks.{name}.enabled"),
                f"what is below {below} is answered by checks.{name}: choose another path, or disable that",
            )


def _products_without_authenticator(settings: Settings) -> Iterator[Contradiction]:
    names = settings.checks.authenticators
    if names != Checks().authenticators:  # whoever switches one of those off need not know of this list
        yield from _not_enabled("checks.authenticators", names, settings)


def _not_enabled(key: str, names: tuple[str, ...], settings: Settings) -> Iterator[Contradiction]:
    enabled = settings.authenticators.enabled()
    for name in names:
        if name not in enabled:
            yield Contradiction(
                (key, f"authenticators.{name}.enabled"),
                f"{name!r} is not enabled; these are: {', '.join(sorted(enabled)) or 'none'}",
            )


def _never_satisfied(path: str, rule: RuleSettings, settings: Settings) -> Iterator[Contradiction]:
    names = rule.authenticators or settings.authenticators.enabled()
    taken = frozenset[Form]().union(*(forms_of(name, settings) for name in names))
    if rule.access != "authenticated" or not rule.credentials or not taken.isdisjoint(rule.credentials):
        return
    decide = (f"authenticators.{name}.{key}" for name in names for key in _DECIDE_FORMS)
    yield Contradiction(
        (f"{path}.credentials", f"{path}.authenticators", f"{path}.access", *decide),
        f"none of its authenticators takes these; they take: {', '.join(sorted(taken)) or 'nothing'}",
    )
