"""What no single key shows: contradictions between sections, and settings that work but mislead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from sidecar.errors import Fault
from sidecar.hosts import HostPattern, is_loopback
from sidecar.model import Form
from sidecar.settings.external import ExternalSettings, UpstreamSettings
from sidecar.settings.model import RuleSettings, Settings

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

_PRODUCTS_WITH_SESSIONS = tuple(name for name in PRODUCT_PATHS if name != "authing")
"""The products of [checks] at which people present a session of ours."""


def faults(settings: Settings) -> Iterator[Fault]:
    """What contradicts itself: the sidecar does not start with it."""
    yield from _pages_among_products(settings)
    yield from _over_nobody(settings)
    yield from _our_cookie_from_elsewhere(settings)
    if settings.identity_assertion.enabled:
        yield from _assertions_for_nobody(settings)
    enabled = frozenset(settings.authenticators.enabled())
    for position, rule in enumerate(settings.rules):
        yield from _not_enabled(position, rule, enabled)
        yield from _never_satisfied(position, rule, enabled)


def _over_nobody(settings: Settings) -> Iterator[Fault]:
    external = settings.authenticators.external
    enabled = settings.authenticators.enabled()
    for name, each in external.items():
        over = _over(each)
        if not over:
            continue
        if over not in enabled:
            yield Fault(f"authenticators.{name}.over", f"{over!r} is not enabled")
        elif over in external and _over(external[over]):
            yield Fault(f"authenticators.{name}.over", f"{over!r} is over another itself")


def _our_cookie_from_elsewhere(settings: Settings) -> Iterator[Fault]:
    for name, each in settings.authenticators.external.items():
        if isinstance(each, UpstreamSettings) and settings.session.cookie in each.pass_cookies:
            yield Fault(f"authenticators.{name}.pass_cookies", "that is the cookie of our own session")


def _assertions_for_nobody(settings: Settings) -> Iterator[Fault]:
    header = settings.identity_assertion.header
    if header.lower() in map(str.lower, settings.identity_headers):
        yield Fault("identity_assertion.header", f"{header} is one of the identity_headers already")
    if settings.tokens.algorithm == "HS256":
        yield Fault(
            "tokens.algorithm",
            "no application can verify HS256, whose key is not published: with identity_assertion, choose "
            "another",
        )


def _over(settings: ExternalSettings) -> str:
    return settings.over if isinstance(settings, UpstreamSettings) else ""


def _pages_among_products(settings: Settings) -> Iterator[Fault]:
    page = f"{urlsplit(settings.login.public_url).path}/login"
    for name, below in PRODUCT_PATHS.items():
        if page.startswith(below) and getattr(settings.checks, name).enabled:
            yield Fault(
                "login.public_url",
                f"what is below {below} is answered by checks.{name}: choose another path, or disable that",
            )


def _not_enabled(position: int, rule: RuleSettings, enabled: frozenset[str]) -> Iterator[Fault]:
    for name in rule.authenticators:
        if name not in enabled:
            yield Fault(
                f"rules[{position}].authenticators",
                f"{name!r} is not enabled; these are: {', '.join(sorted(enabled)) or 'none'}",
            )


def _never_satisfied(position: int, rule: RuleSettings, enabled: frozenset[str]) -> Iterator[Fault]:
    if rule.access != "authenticated" or not rule.credentials:
        return
    names = frozenset(rule.authenticators) or enabled
    if not names.issubset(FORMS):  # what authenticators of other systems take depends on those
        return
    taken = frozenset[Form]().union(*(FORMS[name] for name in names))
    if taken.isdisjoint(rule.credentials):
        yield Fault(
            f"rules[{position}].credentials",
            f"none of its authenticators takes these; they take: {', '.join(sorted(taken)) or 'nothing'}",
        )


def warnings(settings: Settings) -> Iterator[Fault]:
    """What works, but not as somebody would expect: said once, and changes nothing."""
    yield from _unreachable_by_cookie(settings)
    yield from _secure_cookie_over_http(settings)
    yield from _rules_never_reached(settings)
    yield from _sign_in_that_leads_nowhere(settings)
    yield from _trust_in_nobody_or_everybody(settings)
    yield from _subjects_that_could_collide(settings)
    yield from _vouched_for_without_a_session(settings)
    yield from _limits_for_nobody(settings)
    yield from _sessions_that_nobody_accepts(settings)
    yield from _front_ends_without_cookies(settings)


def _unreachable_by_cookie(settings: Settings) -> Iterator[Fault]:
    for path, host in _hosts_behind_a_sign_in(settings):
        if not _cookie_reaches(settings, HostPattern.parse(host)):
            yield Fault(
                path, f"the session cookie never reaches {host}: it is set for {_cookie_scope(settings)}"
            )


def _hosts_behind_a_sign_in(settings: Settings) -> Iterator[tuple[str, str]]:
    for position, rule in enumerate(settings.rules):
        if _takes_cookies(settings, rule):
            for index, host in enumerate(rule.hosts):
                yield f"rules[{position}].hosts[{index}]", host
    for index, host in enumerate(settings.login.allowed_redirects):
        yield f"login.allowed_redirects[{index}]", host


def _takes_cookies(settings: Settings, rule: RuleSettings) -> bool:
    authenticators = frozenset(rule.authenticators or settings.authenticators.enabled())
    forms = rule.credentials or ("cookie",)
    return rule.access == "authenticated" and "session" in authenticators and "cookie" in forms


def _cookie_reaches(settings: Settings, host: HostPattern) -> bool:
    domain = settings.session.cookie_domain
    if domain:
        return host.name == domain or host.name.endswith("." + domain)
    return not host.below and host.name == _public_host(settings)


def _cookie_scope(settings: Settings) -> str:
    domain = settings.session.cookie_domain
    if domain:
        return f"{domain} and below (session.cookie_domain)"
    return f"{_public_host(settings)} alone (login.public_url; session.cookie_domain is empty)"


def _public_host(settings: Settings) -> str:
    return _host_of(settings.login.public_url)


def _host_of(url: str) -> str:
    return HostPattern.parse(urlsplit(url).netloc).name


def _secure_cookie_over_http(settings: Settings) -> Iterator[Fault]:
    public = urlsplit(settings.login.public_url)
    if settings.session.cookie_secure and public.scheme == "http" and not is_loopback(public.hostname or ""):
        yield Fault(
            "login.public_url",
            "browsers drop the session cookie on plain http: use https, or set session.cookie_secure = false",
        )


def _rules_never_reached(settings: Settings) -> Iterator[Fault]:
    for position, rule in enumerate(settings.rules[:-1]):
        if not (rule.hosts or rule.paths or rule.methods or rule.networks):
            yield Fault(f"rules[{position}]", "it selects every request: no rule after it is ever reached")
            return


def _sign_in_that_leads_nowhere(settings: Settings) -> Iterator[Fault]:
    urls = [("login.url", settings.login.url)]
    urls += [(f"rules[{position}].login_url", rule.login_url) for position, rule in enumerate(settings.rules)]
    for path, url in urls:
        if url and "{rd}" not in url:
            yield Fault(
                path, "it has no {rd} in it: a sign-in there does not lead back to what was asked for"
            )


def _trust_in_nobody_or_everybody(settings: Settings) -> Iterator[Fault]:
    proxies = settings.server.trusted_proxies
    if not proxies:
        yield Fault("server.trusted_proxies", "it is empty: every check is refused")
    for index, proxy in enumerate(proxies):
        if proxy.endswith("/0"):
            yield Fault(
                f"server.trusted_proxies[{index}]",
                "it is everybody: anybody may say which client asks for what",
            )


def _limits_for_nobody(settings: Settings) -> Iterator[Fault]:
    for index, network in enumerate(settings.limits.exempt_networks):
        if not network.prefixlen:
            yield Fault(
                f"limits.exempt_networks[{index}]", "it is everybody: no client is ever counted or banned"
            )


def _sessions_that_nobody_accepts(settings: Settings) -> Iterator[Fault]:
    checks = settings.checks
    asked = [f"checks.{name}" for name in _PRODUCTS_WITH_SESSIONS if getattr(checks, name).enabled]
    if asked and not settings.authenticators.session.enabled:
        yield Fault(
            "authenticators.session.enabled",
            f"no session is accepted: whoever signs in is refused by the next request to {', '.join(asked)}",
        )


def _front_ends_without_cookies(settings: Settings) -> Iterator[Fault]:
    if settings.session.cookie_same_site == "none":
        return
    ours = _public_host(settings)
    for index, origin in enumerate(settings.checks.allowed_origins):
        host = _host_of(origin)
        if _certainly_another_site(host, ours):
            yield Fault(
                f"checks.allowed_origins[{index}]",
                f"{host} is another site than {ours} (login.public_url), and browsers send no cookie from "
                'there: set session.cookie_same_site = "none"',
            )


def _certainly_another_site(host: str, ours: str) -> bool:
    """Whether they have no domain in common that somebody could own.

    Which domains can be owned (`example.com`, but not `co.uk`) is a list that only browsers have: hosts
    with the same last two labels may be one site.
    """
    if _is_address(host) or _is_address(ours):
        return host != ours
    return host.split(".")[-2:] != ours.split(".")[-2:]


def _is_address(host: str) -> bool:
    return host.startswith("[") or host.rpartition(".")[2].isdecimal()


def _subjects_that_could_collide(settings: Settings) -> Iterator[Fault]:
    """Two who may vouch on one rule, and may mean different people by one subject."""
    external = settings.authenticators.external
    sources = {name: each for name, each in external.items() if not _over(each)}
    for position, rule in enumerate(settings.rules):
        if rule.access != "authenticated":
            continue
        seen: dict[str, str] = {}
        for name in rule.authenticators or settings.authenticators.enabled():
            if name in external and name not in sources:
                continue
            prefix = sources[name].subject_prefix if name in sources else ""
            other = seen.setdefault(prefix, name)
            if name in sources and other != name:
                yield Fault(
                    f"rules[{position}].authenticators",
                    f"{other} and {name} may name two people by one subject: set "
                    f"authenticators.{name}.subject_prefix",
                )


def _vouched_for_without_a_session(settings: Settings) -> Iterator[Fault]:
    """A rule on which the one that Authing is asked over vouches alone as well."""
    external = settings.authenticators.external
    for position, rule in enumerate(settings.rules):
        names = rule.authenticators or settings.authenticators.enabled()
        for name in names:
            over = _over(external[name]) if name in external else ""
            if rule.access == "authenticated" and over in names:
                yield Fault(
                    f"rules[{position}].authenticators",
                    f"{over} vouches here also for those who have no session by {name}: list {name} alone",
                )
