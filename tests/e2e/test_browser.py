"""A person in a real Chromium, at a site with TLS: examples/nginx/nginx.conf with what it says to CHANGE."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from demo.stack import EXAMPLES, adapted, free_port, nginx_settings
from tests.e2e.conftest import FAST
from tests.e2e.harness import PASSWORD, Installation, RecordingApp, Stack, nginx

SITE = "app.example.com"
TARGET = "/page?x=1&q=a%20b"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    f"--host-resolver-rules=MAP {SITE} 127.0.0.1, MAP * ~NOTFOUND",
]


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for the site, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SITE)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SITE)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = directory / "site.crt", directory / "site.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    files[1].write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
    return files


@pytest.fixture(scope="module")
def site(
    need_nginx: None, chromium: str, tmp_path_factory: pytest.TempPathFactory, app: RecordingApp
) -> Iterator[Stack]:
    """A site of one's own, made as examples/nginx/README.md says."""
    directory = tmp_path_factory.mktemp("site")
    certificate, key = make_certificate(directory)
    plain, port = free_port(), free_port()
    config = directory / "sidecar.toml"
    public_url = {"http://localhost:8080/_sidecar": f"https://{SITE}:{port}/_sidecar"}
    config.write_text(
        adapted((EXAMPLES / "nginx/sidecar.toml").read_text(), {**public_url, "localhost": SITE})
    )
    installation = Installation(config, directory, FAST)
    installation.add_user("ann", "--name", "Ann Ünal")
    with installation.serving() as sidecar:
        changes = {
            "        listen 8080; ": "        #",
            "#listen 443 ssl default_server;": f"listen 127.0.0.1:{port} ssl default_server;",
            "#ssl_reject_handshake on;": "ssl_reject_handshake on;",
            "#listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "#ssl_certificate     /etc/nginx/tls/site.crt;": f"ssl_certificate {certificate};",
            "#ssl_certificate_key /etc/nginx/tls/site.key;": f"ssl_certificate_key {key};",
            "#ssl_protocols ": "ssl_protocols ",
            "server_name localhost;": f"server_name {SITE};",
            **nginx_settings(directory, port=plain, sidecar=sidecar.listen, app=app.address),
        }
        changes.pop("listen 8080; ")
        address = f"127.0.0.1:{port}"
        with nginx(directory, changes, address):
            tls = ssl.create_default_context(cafile=str(certificate))
            yield Stack(address, f"{SITE}:{port}", app, sidecar, installation, tls)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """One Chromium for all of these tests."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS, headless=True)
        yield started
        started.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that has never been here."""
    fresh = browser.new_context(ignore_https_errors=True)
    fresh.set_default_timeout(10_000)
    yield fresh
    fresh.close()


@pytest.fixture
def complaints(context: BrowserContext) -> list[str]:
    """What the browser has to complain about: scripts, styles, policies, things not found."""
    collected: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            collected.append(f"{message.text} {message.location}")

    context.on("console", listen)
    context.on("weberror", lambda error: collected.append(str(error.error)))
    return collected


def sign_in(page: Page, password: str = PASSWORD) -> None:
    """With the keyboard, from where the page puts the cursor."""
    expect(page.get_by_label("Username")).to_be_focused()
    page.keyboard.type("ann")
    page.keyboard.press("Tab")
    page.keyboard.type(password)
    page.keyboard.press("Enter")


def is_in(page: Page, site: Stack, target: str = TARGET) -> None:
    """At the very page, as oneself."""
    page.wait_for_url(f"{site.url}{target}")
    expect(page.get_by_role("heading", name="Hello, ann")).to_be_visible()
    expect(page.get_by_role("row", name="X-Auth-Name")).to_contain_text("Ann Ünal")


def test_signing_in_and_out(site: Stack, context: BrowserContext, complaints: list[str]) -> None:
    page = context.new_page()
    page.goto(f"{site.url}{TARGET}")
    expect(page.get_by_text(f"to continue to {SITE}")).to_be_visible()
    sign_in(page)
    is_in(page, site)
    (cookie,) = [each for each in context.cookies() if each.get("name") == "__Host-sidecar"]
    assert (cookie.get("secure"), cookie.get("httpOnly"), cookie.get("sameSite")) == (True, True, "Lax")

    page.get_by_role("link", name="Sign out").press("Enter")
    expect(page.get_by_role("heading", name="Sign out?")).to_be_visible()
    page.get_by_role("button", name="Sign out").press("Enter")
    expect(page.get_by_role("heading", name="You are signed out.")).to_be_visible()
    page.goto(f"{site.url}/")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert complaints == []


def test_two_tabs_sign_in(site: Stack, context: BrowserContext, complaints: list[str]) -> None:
    tabs = [context.new_page() for _ in range(2)]
    for number, tab in enumerate(tabs):
        tab.goto(f"{site.url}/tab?{number}")
    for number, tab in enumerate(tabs):
        tab.bring_to_front()
        tab.get_by_label("Username").focus()
        sign_in(tab)
        is_in(tab, site, f"/tab?{number}")
    assert complaints == []


def test_a_wrong_password_is_said_in_words(site: Stack, context: BrowserContext) -> None:
    page = context.new_page()
    page.goto(f"{site.url}{TARGET}")
    sign_in(page, "wrong")
    expect(page.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    expect(page.get_by_label("Username")).to_have_value("ann")
    expect(page.get_by_label("Password")).to_be_focused()
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    is_in(page, site)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_window_shows_everything(site: Stack, browser: Browser, scheme: str) -> None:
    context = browser.new_context(ignore_https_errors=True, viewport={"width": 320, "height": 568})
    page = context.new_page()
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")

    def fits() -> bool:
        return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))

    page.goto(f"{site.url}{TARGET}")
    assert fits()
    sign_in(page, "wrong")
    expect(page.get_by_role("alert")).to_be_visible()
    assert fits()
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    is_in(page, site)
    assert fits()
    for path, heading in (("login", "You are signed in."), ("logout", "Sign out?")):
        page.goto(f"{site.url}/_sidecar/{path}")
        expect(page.get_by_role("heading", name=heading)).to_be_visible()
        assert fits()
    context.close()


def test_another_name_gets_no_certificate(site: Stack) -> None:
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    stranger = Stack(site.address, "evil.example", site.app, site.sidecar, site.installation, anyone)
    with pytest.raises(ssl.SSLError):
        stranger.ask("GET", "/")
