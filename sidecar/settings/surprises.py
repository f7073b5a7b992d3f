"""Settings that work but mislead."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from sidecar.errors import Fault
from sidecar.hosts import HostPattern, is_loopback
from sidecar.settings.contradictions import PRODUCT_PATHS, over_of
from sidecar.settings.external import IntrospectionSettings, JwtSettings
from sidecar.settings.model import RuleSettings, Settings

_PRODUCTS_WITH_SESSIONS = tuple(name for name in PRODUCT_PATHS if name != "authing")
"""The products of [checks] at which people present a session of ours."""


def warnings(settings: Settings) -> Iterator[Fault]:
    """What works, but not as somebody would expect: said once, and changes nothing."""
    yield from _unreachable_by_cookie(settings)
    yield from _secure_cookie_over_http(settings)
    yield from _rules_never_reached(settings)
    yield from _sign_in_that_leads_nowhere(settings)
    yield from _sign_in_that_does_not_lead_back(settings)
    yield from _trust_in_nobody_or_everybody(settings)
    yield from _subjects_that_could_collide(settings)
    yield from _two_for_one_issuer(settings)
    yield from _any_token_of_theirs(settings)
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
    signed_in_elsewhere = {
        host for rule in settings.rules if not _takes_cookies(settings, rule) for host in rule.hosts
    }
    for index, host in enumerate(settings.login.allowed_redirects):
        if host not in signed_in_elsewhere:
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


def _sign_in_that_does_not_lead_back(settings: Settings) -> Iterator[Fault]:
    allowed = (urlsplit(settings.login.public_url).netloc, *settings.login.allowed_redirects)
    patterns = [HostPattern.parse(host) for host in allowed]
    for position, rule in enumerate(settings.rules):
        url = rule.login_url or settings.login.url
        if rule.access != "authenticated" or "{rd}" not in url:
            continue
        for index, host in enumerate(rule.hosts):
            if not any(pattern.overlaps(HostPattern.parse(host)) for pattern in patterns):
                yield Fault(
                    f"rules[{position}].hosts[{index}]",
                    f"a sign-in at {_host_of(url)} does not lead back: {host} is not in "
                    "login.allowed_redirects, so {rd} stays empty",
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


def _meetings(settings: Settings) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Where several may vouch, and who, in the order in which they are asked."""
    enabled = settings.authenticators.enabled()
    for position, rule in enumerate(settings.rules):
        if rule.access == "authenticated":
            names = rule.authenticators or enabled
            yield f"rules[{position}].authenticators", tuple(name for name in enabled if name in names)
    products = settings.checks.authenticators
    yield "checks.authenticators", tuple(name for name in enabled if name in products)


def _subjects_that_could_collide(settings: Settings) -> Iterator[Fault]:
    """Two who may vouch in one place, and may mean different people by one subject."""
    external = settings.authenticators.external
    for path, names in _meetings(settings):
        prefixes = {name: external[name].subject_prefix for name in names if name in external}
        sources = [name for name in names if name not in external or not over_of(external[name])]
        for position, second in enumerate(sources):
            earlier = (
                first
                for first in sources[:position]
                if second in prefixes and _could_collide(prefixes.get(first), prefixes[second])
            )
            if first := next(earlier, ""):
                yield Fault(
                    path,
                    f"{first} and {second} may name two people by one subject: set "
                    f"authenticators.{second}.subject_prefix",
                )


def _could_collide(one: str | None, other: str) -> bool:
    """By their prefixes; None is our own, whose subjects are numbers."""
    if one is None:
        return not other or other.isdecimal()
    return one.startswith(other) or other.startswith(one)


def _two_for_one_issuer(settings: Settings) -> Iterator[Fault]:
    external = settings.authenticators.external
    for path, names in _meetings(settings):
        first_of: dict[str, str] = {}
        for name in names:
            each = external.get(name)
            if isinstance(each, JwtSettings) and (first := first_of.setdefault(each.issuer, name)) != name:
                yield Fault(
                    path,
                    f"{first} and {name} have one issuer, and {first} alone judges its tokens: write both "
                    "audiences into one",
                )


def _any_token_of_theirs(settings: Settings) -> Iterator[Fault]:
    for name, each in settings.authenticators.external.items():
        if isinstance(each, IntrospectionSettings) and each.enabled and not each.audience:
            yield Fault(
                f"authenticators.{name}.audience",
                "any token of that server is good here, also one meant for another application or a refresh "
                "token",
            )


def _vouched_for_without_a_session(settings: Settings) -> Iterator[Fault]:
    """Where the one that Authing is asked over vouches alone as well."""
    external = settings.authenticators.external
    for path, names in _meetings(settings):
        for name in names:
            over = over_of(external[name]) if name in external else ""
            if over in names:
                yield Fault(
                    path,
                    f"{over} vouches here also for those who have no session by {name}: list {name} alone",
                )
