"""The page's server: this machine only, nothing without the token, nothing but reading."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from mtlviz.errors import MtlvizError
from mtlviz.watch.following import Followed
from mtlviz.watch.news import TABS, News, Question
from mtlviz.watch.server import Server, asked, content
from mtlviz.widgets import draws, library
from tests.analysis.runs import hand

WINDOWS = list(draws.WINDOWS)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of the run worked out by hand."""
    with Server(News(Followed(Path("nowhere"), hand()))) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join(5)


def _answer(
    server: Server, path: str, *, method: str = "GET", host: str | None = None
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, headers={} if host is None else {"Host": host})
        reply = connection.getresponse()
        return reply.status, reply.read(), dict(reply.getheaders())
    finally:
        connection.close()


def test_it_listens_on_this_machine_alone(server: Server) -> None:
    assert server.socket.getsockname() == ("127.0.0.1", server.port)
    assert server.url == f"http://127.0.0.1:{server.port}/{server.token}/"
    assert len(server.token) >= 24


NAMES = ["", "page.js", "figure_view.js", "figure_view.css", "plotly.gz", "news?tab=Balance", "news?tab=Conflict&row=1"]


@pytest.mark.parametrize("name", NAMES)
def test_what_the_page_needs_is_served_under_the_token_and_nowhere_else(server: Server, name: str) -> None:
    status, body, headers = _answer(server, f"/{server.token}/{name}")
    assert status == 200
    assert len(body) > 50
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert (headers["Referrer-Policy"], headers["X-Content-Type-Options"]) == ("no-referrer", "nosniff")
    for token in ("", server.token[:-1], server.token + "x", server.token.swapcase(), "%00", "é"):
        path = f"/{token}/{name}".encode("latin-1").decode("latin-1")
        assert _answer(server, path.replace("é", "%C3%A9"))[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "0.0.0.0"])
def test_a_page_of_another_name_is_refused(server: Server, host: str) -> None:
    """A site whose name is made to lead to this machine has that name in its requests."""
    assert _answer(server, f"/{server.token}/", host=host)[0] == 404


def test_a_tunnel_may_have_another_port(server: Server) -> None:
    assert _answer(server, f"/{server.token}/", host="localhost:9999")[0] == 200
    assert _answer(server, f"/{server.token}/", host="127.0.0.1")[0] == 200


@pytest.mark.parametrize(
    "path", ["../server.py", "%2e%2e/server.py", "server.py", "page.html", "/etc/passwd", "page.js/", "news/"]
)
def test_there_is_no_other_file(server: Server, path: str) -> None:
    assert _answer(server, f"/{server.token}/{path}")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"])
def test_nothing_can_be_done_but_reading(server: Server, method: str) -> None:
    assert _answer(server, f"/{server.token}/news", method=method)[0] == 501


@pytest.mark.parametrize(
    "query",
    [
        *("tab=What-if", "window=5", "row=-1", "row=x", "row=" + "9" * 30),
        *("have=losses", "have=losses:x", "have=a:1;b:2", "x=1" + 30 * "&x=1"),
    ],
)
def test_a_question_that_no_page_puts(server: Server, query: str) -> None:
    status, body, _ = _answer(server, f"/{server.token}/news?{query}")
    assert status == 400
    assert b"Traceback" not in body


def test_a_question_is_read_as_the_page_puts_it() -> None:
    query = urlencode({"tab": "Conflict", "window": WINDOWS[2], "have": "losses:3,weights:14", "row": "7"})
    assert asked(query) == Question("Conflict", WINDOWS[2], 7, {"losses": 3, "weights": 14})
    assert asked("") == Question()
    assert asked("tab=Curves&have=") == Question()


def test_the_page_knows_the_same_tabs_and_windows_and_reaches_nothing_else() -> None:
    script = content("page.js").decode()
    (tabs,), (windows,) = (
        re.findall(r"^const TABS = \[(.*)\];$", script, re.M),
        re.findall(r"^const WINDOWS = \[(.*)\];$", script, re.M),
    )
    assert [name.strip(' "') for name in tabs.split(",")] == list(TABS)
    assert [name.strip(' "') for name in windows.split(",")] == WINDOWS
    page = content("").decode()
    assert f'data-plotly="{library.VERSION}"' in page
    for text in (script, page):
        assert not re.search(r"https?://|//[a-z]+\.", text.replace("http://www.w3.org", ""))


def test_a_browser_that_goes_away_leaves_no_word(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    for request in (b"GET /", f"GET /{server.token}/plotly.gz HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(request)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closes with a reset
    assert _answer(server, f"/{server.token}/")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_port_that_is_taken(server: Server) -> None:
    with pytest.raises(MtlvizError, match=f"port {server.port} of 127.0.0.1 cannot be had: .*choose another"):
        Server(server.news, port=server.port)
    with pytest.raises(MtlvizError, match="port 70000 of"):
        Server(server.news, port=70_000)
