"""The settings: one frozen model. Its descriptions are the reference (`sidecar config init`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator, ConfigDict, Field, field_validator

from sidecar.errors import InvalidValue
from sidecar.hosts import HostPattern
from sidecar.model import Form
from sidecar.settings.external import AnyExternalSettings, ExternalSettings, authenticator_name
from sidecar.settings.section import Contradiction, Section, Table
from sidecar.settings.types import (
    Duration,
    HostPatterns,
    ListenAddress,
    Methods,
    Name,
    Names,
    Networks,
    OptionalRateSetting,
    Origins,
    PathPatterns,
    Rate,
    RateSetting,
    SecretUrl,
    Size,
    TrustedProxies,
    WebUrl,
    WholeSeconds,
    header_name,
    read_json,
    read_list,
)


class Server(Section):
    """The process and its listeners."""

    listen: ListenAddress = Field(
        "127.0.0.1:9000",
        description='Where the gateway and the browsers ask. Or "unix:/run/sidecar.sock" (mode 0660).',
    )
    admin_listen: ListenAddress = Field(
        "127.0.0.1:9001",
        description="/metrics, /healthz, /readyz and /openapi.json: never on the other listener.",
    )
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that answer, at best one a core: docs/operations.md. 1: this one alone.",
    )
    trusted_proxies: TrustedProxies = Field(
        ("127.0.0.1/32", "::1/128", "unix"),
        description="Who may ask /check/*, and whose X-Forwarded-For counts anywhere. Empty trusts nobody.",
    )
    client_ip_hops: int = Field(
        1,
        ge=1,
        description="How many X-Forwarded-For entries your own proxies append; counted from the right.",
    )
    header_limit: Size = Field(
        64 * 1024,
        description="The longest request head. nginx alone lets 32 KiB through, and adds the URL once more.",
    )
    max_connections: int = Field(
        0,
        ge=0,
        description="Open at once in each worker; one more gets 503 and is closed. 0: as many as the limit "
        "on open files (RLIMIT_NOFILE) allows, less 256.",
    )
    http: Literal["express", "plain"] = Field(
        "express",
        description='"plain" decides every check anew, and gives no answer again that it gave before.',
    )
    replay_memory: Size = Field(
        256 * 1024 * 1024,
        description="In each worker, for answers that are given again; a session in use takes 2 to 3 KiB "
        "of it. A 32nd more is for those without a session, and 8MiB for URLs.",
    )
    drain: Duration = Field(10.0, description="After SIGTERM: not ready, finish what was accepted, exit.")


class Log(Section):
    """One event a line, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least that is logged."
    )
    format: Literal["console", "json"] = Field("console", description="For eyes, or for a log collector.")


class AuditSettings(Section):
    """Who signed in, who was refused, who changed what: one line each, docs/operations.md."""

    file: str = Field(
        "",
        description="It gets a JSON object a line, also after it was rotated away. Empty: the log, at any "
        "level.",
    )


class StoreSettings(Section):
    """Where users, keys and sessions are kept."""

    url: SecretUrl = Field(
        "sqlite:///var/sidecar.db",
        repr=False,
        description="Three slashes: below the working directory; four: an absolute path.",
    )
    sessions_url: SecretUrl = Field(
        "", repr=False, description="Sessions elsewhere. Reserved; empty: in the same store."
    )

    @field_validator("url")
    @classmethod
    def _url_is_built(cls, url: str) -> str:
        if url.startswith(("postgresql://", "postgres://")):
            raise ValueError("PostgreSQL is reserved for a later version: use sqlite:///")
        if not url.startswith("sqlite:///") or url == "sqlite:///":
            raise ValueError(
                'a store is written like "sqlite:///var/sidecar.db" or "sqlite:////srv/sidecar.db"'
            )
        return url

    @field_validator("sessions_url")
    @classmethod
    def _sessions_url_is_built(cls, url: str) -> str:
        if url:
            raise ValueError(
                "a store of its own for sessions is reserved for a later version: leave it empty"
            )
        return url


class SessionSettings(Section):
    """Sessions and their cookie."""

    cookie_name: str = Field(
        "",
        pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]*$",
        description='Empty: "__Host-sidecar", or "sidecar" with a cookie_domain or without cookie_secure.',
    )
    cookie_domain: str = Field(
        "",
        description="Empty: only the host of the sign-in page gets the cookie. A domain: its subdomains too.",
    )
    cookie_secure: bool = Field(default=True, description="Only over https (and to this machine itself).")
    cookie_same_site: Literal["lax", "strict", "none"] = Field(
        "lax", description="strict also asks for a sign-in after a link from another site."
    )
    lifetime: Duration = Field(12 * 3600.0, description="A session ends this long after the sign-in.")
    idle_timeout: Duration = Field(3600.0, description="And this long after it was last used.")
    touch_interval: Duration = Field(
        60.0,
        description="A session's use is written, and its cookie refreshed, once in this time at most.",
    )

    @field_validator("cookie_domain")
    @classmethod
    def _domain(cls, given: str) -> str:
        return _cookie_domain(given) if given else given

    def contradictions(self) -> Iterator[Contradiction]:
        """See Section.contradictions."""
        if self.cookie_name.startswith("__Host-") and (self.cookie_domain or not self.cookie_secure):
            yield Contradiction(
                ("cookie_name", "cookie_domain", "cookie_secure"),
                "browsers drop a __Host- cookie that has a domain or is not secure",
            )
        if self.cookie_name.startswith("__Secure-") and not self.cookie_secure:
            yield Contradiction(
                ("cookie_name", "cookie_secure"), "browsers drop a __Secure- cookie that is not secure"
            )
        if self.cookie_same_site == "none" and not self.cookie_secure:
            yield Contradiction(
                ("cookie_same_site", "cookie_secure"),
                "browsers drop a SameSite=None cookie that is not secure",
            )
        if self.touch_interval >= self.idle_timeout:
            yield Contradiction(
                ("touch_interval", "idle_timeout"),
                "it must be shorter than idle_timeout, or sessions in use expire",
            )

    @property
    def cookie(self) -> str:
        """The cookie's name, chosen where it is not set."""
        if self.cookie_name:
            return self.cookie_name
        return "__Host-sidecar" if self.cookie_secure and not self.cookie_domain else "sidecar"


def _cookie_domain(given: str) -> str:
    """The domain as hosts are compared with it. The dot that RFC 2109 put in front means nothing today."""
    refusal = f'{given!r} is no domain that browsers take: write "example.com"'
    try:
        pattern = HostPattern.parse(given.removeprefix("."))
    except InvalidValue:
        raise ValueError(refusal) from None
    is_address = pattern.name.startswith("[") or pattern.name.rpartition(".")[2].isdecimal()
    if pattern.below or pattern.port is not None or is_address:
        raise ValueError(refusal)
    return pattern.name


class Tokens(Section):
    """The JWTs that the sidecar signs."""

    issuer: Name = Field("http://127.0.0.1:9000", description="Their iss.")
    audience: Name = Field("sidecar", description="The aud of session tokens.")
    algorithm: Literal["ES256", "RS256", "EdDSA", "HS256"] = Field(
        "ES256", description="ES256, RS256, EdDSA, or HS256 (which no other service can verify)."
    )
    lifetime: WholeSeconds = Field(3600.0, description="A token's; never longer than its session.")


class Login(Section):
    """Where people sign in."""

    public_url: WebUrl = Field(
        "http://127.0.0.1:9000",
        min_length=1,
        description="Where browsers reach the sign-in page. May have a path "
        "(https://app.example.com/_sidecar): the pages are then served below it, and the proxy passes that "
        "path on unchanged.",
    )
    url: WebUrl = Field(
        "",
        description='A sign-in page elsewhere: "https://sso.example.com/login?back={rd}". Empty: our own.',
    )
    allowed_redirects: HostPatterns = Field(
        (),
        description='Where a sign-in may lead back to: "app.example.com", "*.example.com"; without a port: '
        "any. public_url's host is always allowed.",
    )

    @field_validator("public_url")
    @classmethod
    def _plain(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.query or "//" in parts.path:
            raise ValueError("it has no query, and no // in its path")
        return url.rstrip("/")


class SessionAuthenticatorSettings(Table):
    """The session cookie, and session tokens as bearer."""

    enabled: bool = True


class ApiKeyAuthenticatorSettings(Table):
    """API keys, in X-Api-Key or as bearer."""

    enabled: bool = True


class BasicAuthenticatorSettings(Table):
    """Local users by Authorization: Basic, for scripts that cannot do better."""

    enabled: bool = False
    cache: Duration = Field(60.0, description="How long a password that was right need not be hashed again.")


class Authenticators(Section):
    """Who may vouch for a request. Others than these have names of your choice: docs/authenticators.md."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[Annotated[str, AfterValidator(authenticator_name)], AnyExternalSettings] = Field(
        init=False
    )

    session: SessionAuthenticatorSettings = SessionAuthenticatorSettings()
    api_key: ApiKeyAuthenticatorSettings = ApiKeyAuthenticatorSettings()
    basic: BasicAuthenticatorSettings = BasicAuthenticatorSettings()

    @property
    def external(self) -> Mapping[str, ExternalSettings]:
        """Those of other systems, by name, in the order of the file."""
        return self.__pydantic_extra__

    def enabled(self) -> tuple[str, ...]:
        """The names of those that are on."""
        built_in = {name: getattr(self, name) for name in type(self).model_fields}
        return tuple(name for name, each in {**built_in, **self.external}.items() if each.enabled)


class RuleSettings(Section):
    """The first rule that selects a request decides; where none does, it is refused (403)."""

    name: str = Field("", description="For logs and messages.")
    hosts: HostPatterns = Field((), description='"app.example.com", "*.example.org"; without a port: any.')
    paths: PathPatterns = Field(
        (), description='"/admin/**" (also /admin itself), "/*.png"; matched on the decoded, resolved path.'
    )
    methods: Methods = Field((), description="Selects by method. Empty selectors select everything.")
    networks: Networks = Field((), description="Of the client.")
    access: Literal["authenticated", "public", "deny"] = Field(
        "authenticated", description="authenticated, public (never refuses), or deny."
    )
    authenticators: Names = Field((), description="Which may vouch; empty: all that are enabled.")
    credentials: Annotated[tuple[Form, ...], BeforeValidator(read_list)] = Field(
        (), description='The forms that are read: "cookie", "bearer", "basic", "api_key"; empty: all.'
    )
    roles: Names = Field((), description="Any one of these.")
    permissions: Names = Field((), description="Any one of these.")
    accounts: Names = Field((), description="Any one of these, by id.")
    scopes: Names = Field((), description="Every one of these: of an API key or a token; a session has none.")
    app: str = Field("", description="The application that this protects; its use is noted in the session.")
    login_url: WebUrl = Field("", description="Instead of [login] url.")
    allow_encoded_slash: bool = Field(
        default=False,
        description="Let %2F in the path through where it makes no difference to which rule applies.",
    )

    allow_preflight: bool = Field(
        default=False,
        description="Let a CORS preflight through, which has no credential: OPTIONS with Origin and "
        "Access-Control-Request-Method.",
    )

    def contradictions(self) -> Iterator[Contradiction]:
        """See Section.contradictions."""
        demands = self.roles or self.permissions or self.accounts or self.scopes
        if self.access != "authenticated" and demands:
            yield Contradiction(("access",), f"a rule that is {self.access} demands nothing of a user")


class Ban(Section):
    """So many wrong passwords in `window` refuse sign-ins for `duration`."""

    failures: int = Field(5, ge=1)
    window: Duration = 120.0
    duration: Duration = 300.0


class Limits(Section):
    """Against guessed passwords and floods. A client is its network: a /32, or an IPv6 /64."""

    login: RateSetting = Field(Rate(10, "minute"), description="Sign-ins per client network.")
    checks: OptionalRateSetting = Field(
        Rate(6000, "minute"),
        description="Requests to the products' endpoints ([checks]) per client network, in each worker; "
        "empty: not counted.",
    )
    exempt_networks: Networks = Field(
        (),
        description="Backends of your own, which ask for many people: their network is neither counted nor "
        "banned. The users behind them are.",
    )
    ban: Ban = Field(Ban(), description="Per user and per client network; live sessions and keys still pass.")


class TrafficGuard(Section):
    """Who gets 403 at the products' endpoints ([checks]) and at every sign-in; not at /check/*."""

    deny_networks: Networks = Field((), description="Of the client.")
    deny_user_agents: Names = Field((), description="Parts of a User-Agent, in any case.")


class CargoExtraCheck(Table):
    """CargoExtra: GET /api/v1/user/check."""

    enabled: bool = True


class CompassCheck(Table):
    """COMPASS: POST /auth/validate-session."""

    enabled: bool = True
    roles: Names = Field((), description="Any one of these, or 403. Empty: any role, or none.")


class PulseCheck(Table):
    """Pulse: GET /auth/session, POST /auth/login."""

    enabled: bool = True


class VirolaCheck(Table):
    """Virola: GET /api/v1/status, POST /api/v1/login, POST /api/v1/logout."""

    enabled: bool = True


class AuthingCheck(Table):
    """Authing and GenAuth: POST /api/v3/check-session-status, POST /api/v3/get-management-token."""

    enabled: bool = True
    hide_unknown: bool = Field(
        default=False, description="Answer that an unknown user has no session, instead of 404."
    )


class Checks(Section):
    """The session-check endpoints of other products, which the sidecar answers as they do: docs/checks.md."""

    allowed_origins: Origins = Field(
        (), description='Browser front ends elsewhere that may ask with cookies: "https://app.example.com".'
    )
    authenticators: Names = Field(
        ("session", "api_key"),
        description="Which may vouch here. Who has an account at an issuer that you add is somebody to every "
        "product.",
    )
    cargo_extra: CargoExtraCheck = Field(
        CargoExtraCheck(), validation_alias=AliasChoices("cargo_extra", "cargo-extra")
    )
    compass: CompassCheck = CompassCheck()
    pulse: PulseCheck = PulseCheck()
    virola: VirolaCheck = VirolaCheck()
    authing: AuthingCheck = AuthingCheck()


IDENTITY_FIELDS = (
    "subject",
    "username",
    "email",
    "name",
    "roles",
    "permissions",
    "account",
    "scopes",
    "session_id",
    "method",
)
"""What an identity header may carry."""

_OURS = {"set-cookie", "location", "www-authenticate", "retry-after", "x-auth-reason", "x-auth-login-url"}
_FRAMING = {
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
_CREDENTIALS = {"authorization", "cookie", "set-cookie2"}
"""The application would take them from the client, or the browser from the application."""


def _carrying_header(name: str) -> str:
    """The name of a header that may tell something of an identity."""
    lower = header_name(name).lower()
    if lower in _OURS | _FRAMING | _CREDENTIALS or lower.startswith("proxy-"):
        raise ValueError(f"{name} already has a meaning of its own")
    return name


class IdentityAssertion(Section):
    """A short-lived JWT that tells the application who asks, for that host alone: docs/identity.md."""

    enabled: bool = Field(
        default=False,
        description="On every 2xx answer, empty where nobody is signed in. Keys: /.well-known/jwks.json.",
    )
    header: Annotated[str, AfterValidator(_carrying_header)] = Field(
        "X-Auth-Assertion", description="The gateway has to pass this header on as well."
    )
    lifetime: WholeSeconds = Field(
        60.0, description="It is renewed after half of this, and never outlives what it was made from."
    )


class Settings(Section):
    """Everything that can be set."""

    server: Server = Server()
    log: Log = Log()
    audit: AuditSettings = AuditSettings()
    store: StoreSettings = StoreSettings()
    session: SessionSettings = SessionSettings()
    tokens: Tokens = Tokens()
    login: Login = Login()
    identity_headers: Annotated[dict[str, str], BeforeValidator(read_json)] = Field(
        {
            "X-Auth-User": "username",
            "X-Auth-User-Id": "subject",
            "X-Auth-Email": "email",
            "X-Auth-Name": "name",
            "X-Auth-Roles": "roles",
            "X-Auth-Permissions": "permissions",
            "X-Auth-Account": "account",
            "X-Auth-Method": "method",
        },
        description="header = field. Every one is on every 2xx answer, exactly once, empty where there is "
        f"nothing. Fields: {', '.join(IDENTITY_FIELDS)}.",
    )
    identity_assertion: IdentityAssertion = IdentityAssertion()
    authenticators: Authenticators = Authenticators()
    checks: Checks = Checks()
    limits: Limits = Limits()
    traffic_guard: TrafficGuard = TrafficGuard()
    rules: Annotated[tuple[RuleSettings, ...], BeforeValidator(read_json)] = Field(
        (RuleSettings(name="signed-in"),),
        description="The first rule that selects a request decides; where none does, it is refused (403). "
        "hosts, paths, methods and networks select: a rule that does not select is passed over. access, "
        "authenticators, roles, permissions, accounts and scopes are what it then demands. Rules in the file "
        "replace the built-in one.",
    )

    @field_validator("identity_headers")
    @classmethod
    def _identity_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, identity_field in headers.items():
            _carrying_header(name)
            if identity_field not in IDENTITY_FIELDS:
                raise ValueError(f"{name}: {identity_field!r} is none of {', '.join(IDENTITY_FIELDS)}")
        repeated = [name for name, count in Counter(map(str.lower, headers)).items() if count > 1]
        if repeated:
            raise ValueError(
                f"{', '.join(repeated)} is there twice: case makes no difference in header names"
            )
        return headers
