"""One notebook of a real JupyterLab in headless Chromium: run its cells, use its page, look at it, save it.

How to write a test with it (the fixtures live in `conftest.py`)::

    @pytest.mark.browser
    def test_something(notebook):
        book = notebook(["import mtlviz as mv", "mv.dashboard('runs/demo')"])   # a fresh notebook, page and kernel
        book.run(0)                                  # runs a cell and waits for it; an exception in it fails the test
        book.run(1)
        book.wait_for(".js-plotly-plot")             # any CSS selector; `book.output(1)` is a playwright locator
        book.click("Pause")                          # a button by its label, wherever it is
        assert book.value("run.state") == "paused"   # a Python expression in the kernel
        book.theme(DARK); book.resize(600, 800)
        book.screenshot("dark_narrow")               # tests/browser/shots/dark_narrow.png: look at it
        book.save(); again = book.reopen()           # the same file in a new page, its old kernel shut down

Every wait is bounded and fails with what it waited for. When the test ends, the `notebook` fixture asserts that no
request left the machine and that the console shows no error beyond `JUPYTERLAB_ERRORS`, then closes page and kernel.
"""

from __future__ import annotations

import ast
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, WebSocket

SHOTS = Path(__file__).parent / "shots"
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"

JUPYTERLAB_ERRORS = {
    "removeChild": re.compile(r"NotFoundError: Failed to execute 'removeChild' on 'Node'"),
    "model not found": re.compile(r"^Error: widget model not found\b"),
}
"""Console errors that JupyterLab itself logs, each with its reason; anything else fails the test.

- removeChild: clearing outputs removes a widget's node that its manager has removed already; nothing is lost.
- model not found: a reopened notebook holds widgets of a kernel that is gone; JupyterLab says so for each of them.
"""


class Notebook:
    """One notebook in one browser page with one kernel.

    Attributes:
        page: playwright's page, for whatever the methods below do not offer.
        path: the notebook file.
        errors: console errors and uncaught exceptions so far, JupyterLab's own (`JUPYTERLAB_ERRORS`) left out.
        strangers: addresses of all requests that went anywhere but to 127.0.0.1.
        received: bytes of each websocket frame that the page received, in order; sum slices of it.
        sent: the same for frames that the page sent.
    """

    def __init__(self, browser: Browser, url: str, path: Path, *, width: int, height: int) -> None:
        self.browser, self.url, self.path = browser, url, path
        self.errors: list[str] = []
        self.strangers: list[str] = []
        self.received: list[int] = []
        self.sent: list[int] = []
        self.context: BrowserContext = browser.new_context(
            viewport={"width": width, "height": height}, accept_downloads=True
        )
        self.context.set_default_timeout(20_000)
        self.page: Page = self.context.new_page()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self._note_error(str(error)))
        self.page.on("request", self._on_request)
        self.page.on("websocket", self._on_websocket)
        self.page.goto(f"{url}/doc/tree/{path.name}?reset", timeout=60_000)
        self._wait_for_kernel()
        if self.page.evaluate("document.body.dataset.jpThemeName") != LIGHT:  # the server keeps what a test chose
            self.theme(LIGHT)

    def _wait_for_kernel(self) -> None:
        self.wait_until(
            "window.jupyterapp?.shell.currentWidget?.context?.isReady"
            " && jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'",
            timeout=60,
        )

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._note_error(message.text)

    def _note_error(self, text: str) -> None:
        if not any(known.search(text) for known in JUPYTERLAB_ERRORS.values()):
            self.errors.append(text)

    def _on_request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname != "127.0.0.1":
            self.strangers.append(request.url)

    def _on_websocket(self, websocket: WebSocket) -> None:
        if urlsplit(websocket.url).hostname != "127.0.0.1":
            self.strangers.append(websocket.url)
        websocket.on("framereceived", lambda frame: self.received.append(len(frame)))
        websocket.on("framesent", lambda frame: self.sent.append(len(frame)))

    def start(self, index: int) -> None:
        """Starts the code cell and returns at once."""
        self.page.evaluate(
            """index => {
                jupyterapp.shell.currentWidget.content.activeCellIndex = index;
                void jupyterapp.commands.execute("notebook:run-cell");
            }""",
            index,
        )

    def run(self, index: int, *, timeout: float = 60) -> None:
        """Runs the code cell and waits for its end.

        Raises:
            AssertionError: the cell raised (with its traceback), or it did not end in `timeout` seconds.
        """
        outcome = self.page.evaluate(
            """async ([index, milliseconds]) => {
                const panel = jupyterapp.shell.currentWidget;
                panel.content.activeCellIndex = index;
                const late = new Promise(done => setTimeout(() => done("late"), milliseconds));
                const end = await Promise.race([jupyterapp.commands.execute("notebook:run-cell"), late]);
                const outputs = panel.content.widgets[index].model.sharedModel.toJSON().outputs;
                return {late: end === "late", outputs};
            }""",
            [index, timeout * 1000],
        )
        assert not outcome["late"], f"cell {index} did not end within {timeout} s"
        for output in outcome["outputs"]:
            if output["output_type"] == "error":
                traceback = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output["traceback"]))
                raise AssertionError(f"cell {index} raised:\n{traceback}")

    def value(self, expression: str, *, setup: str = "", timeout: float = 20) -> Any:
        """A Python expression evaluated in the kernel, after `setup` was executed there; its result must be JSON."""
        reply = self.page.evaluate(
            """async ([setup, expression, milliseconds]) => {
                const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                const future = kernel.requestExecute(
                    {code: setup, store_history: false, user_expressions: {value: expression}});
                const late = new Promise(done => setTimeout(() => done(null), milliseconds));
                const reply = await Promise.race([future.done, late]);
                return reply && (reply.content.user_expressions?.value ?? reply.content);
            }""",
            [setup, f"__import__('json').dumps({expression})", timeout * 1000],
        )
        assert reply is not None, f"the kernel did not evaluate {expression!r} within {timeout} s"
        assert reply["status"] == "ok", f"{expression!r} raised {reply.get('ename')}: {reply.get('evalue')}"
        # The reply holds the repr of a str that holds JSON.
        return json.loads(ast.literal_eval(reply["data"]["text/plain"]))

    def wait_until(self, condition: str, *, timeout: float = 20) -> Any:
        """Waits until the JavaScript expression is truthy in the page and returns its value."""
        return self.page.wait_for_function(f"() => {condition}", timeout=timeout * 1000, polling=50).json_value()

    def wait_for(self, selector: str, *, count: int = 1, timeout: float = 20) -> Locator:
        """Waits until at least `count` visible elements fit the CSS selector and returns the locator of all."""
        found = self.page.locator(selector).locator("visible=true")
        found.nth(count - 1).wait_for(timeout=timeout * 1000)
        return found

    def wait_for_value(self, expression: str, fits: Callable[[Any], bool], *, timeout: float = 20) -> Any:
        """Waits until a Python expression in the kernel fits, and returns its value."""
        end = time.monotonic() + timeout
        while not fits(value := self.value(expression)):
            assert time.monotonic() < end, f"{expression!r} is still {value!r} after {timeout} s"
            self.pause(0.1)
        return value

    def pause(self, seconds: float) -> None:
        """Lets the page live for this long; for waiting on something, use the wait methods."""
        self.page.wait_for_timeout(seconds * 1000)

    def output(self, index: int) -> Locator:
        """The output area of a cell."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index).locator(".jp-Cell-outputArea")

    def outputs(self, index: int) -> list[dict[str, Any]]:
        """The outputs of a cell as the notebook file would hold them now."""
        return self.page.evaluate(
            "index => jupyterapp.shell.currentWidget.content.widgets[index].model.sharedModel.toJSON().outputs", index
        )

    def click(self, label: str, *, timeout: float = 20) -> None:
        """Clicks the visible button or tab in the notebook with exactly this label."""
        inside = self.page.locator(".jp-Notebook")
        text = re.compile(rf"^\s*{re.escape(label)}\s*$")  # by text, since an icon is part of a button's name
        named = inside.get_by_role("button").or_(inside.get_by_role("tab")).filter(has_text=text)
        named.locator("visible=true").first.click(timeout=timeout * 1000)

    def theme(self, name: str) -> None:
        """Switches to `LIGHT` or `DARK` and waits until the page wears it."""
        self.page.evaluate("name => void jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
        self.wait_until(f"document.body.dataset.jpThemeName === {json.dumps(name)}")
        self.pause(0.5)

    def resize(self, width: int, height: int) -> None:
        """Gives the browser window this size, in pixels."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.pause(0.5)

    def save(self) -> dict[str, Any]:
        """Saves the notebook and returns what the file holds."""
        self.page.evaluate("() => jupyterapp.shell.currentWidget.context.save()")
        return json.loads(self.path.read_text())

    def restart_kernel(self) -> None:
        """Restarts the kernel; the page stays."""
        self.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
        self._wait_for_kernel()

    def reload(self) -> None:
        """Reloads the page; the kernel goes on."""
        self.page.reload(timeout=60_000)
        self._wait_for_kernel()

    def reopen(self, *, width: int = 1200, height: int = 900) -> Notebook:
        """Shuts the kernel down, closes the page, and opens the file in a fresh page with a fresh kernel."""
        self.close()
        return Notebook(self.browser, self.url, self.path, width=width, height=height)

    def screenshot(self, name: str, *, of: Locator | None = None) -> Path:
        """Writes shots/<name>.png, of the whole page or of one element; somebody should look at it."""
        SHOTS.mkdir(exist_ok=True)
        path = SHOTS / f"{name}.png"
        (of or self.page).screenshot(path=path)
        return path

    def check(self) -> None:
        """Asserts that no request left the machine and that the console shows no error of ours."""
        assert not self.strangers, f"requests left the machine: {self.strangers}"
        assert not self.errors, "the console shows errors beyond JUPYTERLAB_ERRORS:\n" + "\n".join(self.errors)

    def close(self) -> None:
        """Shuts the kernel down and closes the page; safe to call twice."""
        if self.page.is_closed():
            return
        self.page.evaluate(
            "() => Promise.race([jupyterapp.shell.currentWidget?.sessionContext.shutdown(),"
            " new Promise(done => setTimeout(done, 5000))])"
        )
        self.context.close()
