"""Serves the page that watches a run: on this machine only, to whoever knows its address, and read only."""

from __future__ import annotations

import re
import secrets
import socketserver
import sys
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from importlib import resources
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from mtlviz import widgets
from mtlviz.errors import MtlvizError
from mtlviz.watch.news import TABS, News, Question
from mtlviz.widgets import FigureView, draws, library

HOST = "127.0.0.1"
_NAMES = frozenset({HOST, "localhost"})  # what a browser may call this machine; any other name is another site's
_POLICY = (
    "default-src 'none'; script-src 'self' blob:; style-src 'self' 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_NUMBER = re.compile(r"\d{1,15}")
_HAVE = re.compile(r"([a-z_]{1,40}):(\d{1,15})")


class Server(socketserver.ThreadingTCPServer):
    """A web server on a loopback port whose pages lie under a path that nobody can guess.

    Args:
        news: answers the page's questions.
        port: 0 takes a free one.

    Raises:
        MtlvizError: the port cannot be had.
    """

    allow_reuse_address = sys.platform != "win32"  # there it would let two servers share a port
    daemon_threads = True

    def __init__(self, news: News, *, port: int = 0) -> None:
        self.news = news
        self.token = secrets.token_urlsafe(18)
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise MtlvizError(f"port {port} of {HOST} cannot be had: {why}; choose another, or none") from error

    @property
    def port(self) -> int:
        """The port."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Keeps silent of a browser that went away in the middle of an answer."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "mtlviz", ""
    timeout = 60  # seconds until a silent connection is given up

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        token, _, name = address.path.removeprefix("/").partition("/")
        if host not in _NAMES or not secrets.compare_digest(token.encode(), self.server.token.encode()):
            self._answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"Not found.\n")
        elif name == "news":
            try:
                question = asked(address.query)
            except ValueError as error:
                self._answer(HTTPStatus.BAD_REQUEST, "text/plain; charset=utf-8", f"{error}\n".encode())
            else:
                self._answer(HTTPStatus.OK, "application/octet-stream", self.server.news.answer(question))
        elif name in _KINDS:
            self._answer(HTTPStatus.OK, _KINDS[name], content(name))
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"Not found.\n")

    def _answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        for header, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": _POLICY,
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        return  # the terminal belongs to whoever watches


_KINDS = {
    "": "text/html; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "figure_view.js": "text/javascript; charset=utf-8",
    "figure_view.css": "text/css; charset=utf-8",
    "plotly.gz": "application/octet-stream",
}


@cache
def content(name: str) -> bytes:
    """What never changes: the page, its script, and the view of a figure as notebooks have it."""
    if name == "plotly.gz":
        return library.gzipped()
    if name == "figure_view.js":
        return str(FigureView._esm).encode()
    if name == "figure_view.css":
        return (Path(widgets.__file__).parent / name).read_bytes()
    text = resources.files("mtlviz.watch").joinpath(name or "page.html").read_text(encoding="utf-8")
    return text.replace("$plotly", library.VERSION).encode()


def asked(query: str) -> Question:
    """The question that a page's query string puts.

    Raises:
        ValueError: it is none that the page puts.
    """
    fields = {key: values[-1] for key, values in parse_qs(query, max_num_fields=8).items()}
    tab, window, row = fields.get("tab", TABS[0]), fields.get("window", next(iter(draws.WINDOWS))), fields.get("row")
    have = fields.get("have", "")
    pairs = [_HAVE.fullmatch(pair) for pair in have.split(",")] if have else []
    if tab not in TABS or window not in draws.WINDOWS or not (row is None or _NUMBER.fullmatch(row)):
        raise ValueError("A question needs one of the tabs and windows that the page has, and a row of the log.")
    if not all(pairs):
        raise ValueError("have names figures and their numbers, name:number.")
    held = {pair[1]: int(pair[2]) for pair in pairs if pair is not None}
    return Question(tab=tab, window=window, row=None if row is None else int(row), have=held)
