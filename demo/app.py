"""An application behind the gateway: one page that shows the identity headers that it received.

It needs nothing but Python: `python app.py --listen 127.0.0.1:8000`.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

IDENTITY_HEADERS = (
    "X-Auth-User",
    "X-Auth-User-Id",
    "X-Auth-Email",
    "X-Auth-Name",
    "X-Auth-Roles",
    "X-Auth-Permissions",
    "X-Auth-Account",
    "X-Auth-Method",
)

_STYLE = """
:root { color-scheme: light dark; --page: #f1f4f3; --card: #fff; --edge: #dde3e1; --text: #17211f;
  --muted: #56635f; --accent: #0f6a5c; }
@media (prefers-color-scheme: dark) { :root { --page: #0f1413; --card: #182020; --edge: #2a3534;
  --text: #e6ecea; --muted: #a2b0ac; --accent: #6fcfbb; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 10vh 1.5rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
main { max-width: 36rem; margin: auto; padding: 2.5rem; background: var(--card);
  border: 1px solid var(--edge); border-radius: 1rem; }
h1 { margin: 0 0 .5rem; font-size: 1.5rem; line-height: 1.25; }
p { margin: 0 0 1.5rem; color: var(--muted); }
table { width: 100%; border-collapse: collapse; margin-bottom: 1.5rem; }
th, td { padding: .5rem .75rem .5rem 0; border-top: 1px solid var(--edge); text-align: left;
  vertical-align: top; }
th { width: 45%; font-weight: 500; }
td.none { color: var(--muted); }
a { margin-right: 1.5rem; color: var(--accent); }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{method} <code>{path}</code> came through the gateway with these headers.</p>
<table>
{rows}
</table>
<a href="{sign_out}">Sign out</a> <a href="/admin/">A page for the role “admin”</a>
</main>
</body>
</html>
"""

_POLICY = "default-src 'none'; img-src data:; style-src 'sha256-{}'; base-uri 'none'; frame-ancestors 'none'"
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


class PageApp(ThreadingHTTPServer):
    """Serves the page on a loopback address."""

    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], sign_out: str = "/_sidecar/logout", page: type[Page] | None = None
    ) -> None:
        super().__init__(address, page or Page)
        self.sign_out = sign_out


class Page(BaseHTTPRequestHandler):
    """Any method, any path: who is asking."""

    server: PageApp
    protocol_version = "HTTP/1.1"
    body = b""

    def answer(self) -> None:
        """Shows what came."""
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        page = self.page().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", _POLICY.format(_STYLE_HASH))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815 - http.server's names

    def page(self) -> str:
        """The page. Header values are percent-encoded UTF-8, and so are the items of a list."""
        user = unquote(self.headers.get("X-Auth-User", ""))
        return _PAGE.format(
            style=_STYLE,
            title=escape(f"Hello, {user}" if user else "Hello, whoever you are"),
            method=escape(self.command),
            path=escape(self.path),
            sign_out=escape(self.server.sign_out),
            rows="\n".join(map(self._row, IDENTITY_HEADERS)),
        )

    def _row(self, name: str) -> str:
        value = self.headers.get(name, "")
        cell = f"<td>{escape(unquote(value))}</td>" if value else '<td class="none">nothing</td>'
        return f'<tr><th scope="row">{escape(name)}</th>{cell}</tr>'

    def log_message(self, *_: object) -> None:
        """The gateway logs requests already."""


def main() -> None:
    """Serves until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:8000", metavar="HOST:PORT")
    parser.add_argument(
        "--sign-out", default="/_sidecar/logout", metavar="URL", help="what the link leads to"
    )
    given = parser.parse_args()
    host, _, port = given.listen.rpartition(":")
    with PageApp((host, int(port)), given.sign_out) as app:
        app.serve_forever()


if __name__ == "__main__":
    main()
