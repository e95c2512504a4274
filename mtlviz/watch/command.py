"""The command that watches a run which another process writes: in the browser, or as text in the terminal."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlviz.errors import MtlvizError

if TYPE_CHECKING:
    from mtlviz.watch.following import Followed


def watch(
    run: Annotated[Path, typer.Argument(help="Folder of a run that is being written, here or by another process.")],
    text: Annotated[
        bool, typer.Option("--text", help="In this terminal, without a browser; ends with the run.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Print how the run stands, as text, and end.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for a run that is not there yet.")] = False,
    port: Annotated[
        int | None, typer.Option("--port", "-p", min=0, max=65535, help="Of the page [default: a free one].")
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page, or only print its address.")
    ] = True,
) -> None:
    """Watch a run that another process writes: its live dashboard in the browser, until Ctrl-C.

    The page is served to this machine alone. To see it from another one: ssh -L PORT:127.0.0.1:PORT, with --port PORT
    --no-browser here, and the address that is printed opened there.
    """
    from mtlviz.watch.following import Followed, opened

    try:
        if wait and not run.exists():
            print(f"Waiting for a run in {run} ...", flush=True)
        followed = Followed(run, opened(run, wait=wait))
        if text or once:
            from mtlviz.watch.terminal import watch as shown

            shown(followed, once=once)
        else:
            _serve(followed, run, port=port or 0, browser=browser)
    except (MtlvizError, OSError) as error:
        print(f"mtlviz: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _serve(followed: Followed, run: Path, *, port: int, browser: bool) -> None:
    """Serves the page until Ctrl-C."""
    from mtlviz.watch.news import News
    from mtlviz.watch.server import Server

    with Server(News(followed), port=port) as server:
        print(f"Watching {run}: {server.url}\nCtrl-C ends the page; the run goes on.", flush=True)
        if browser and _has_window():
            threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        server.serve_forever()


def _has_window() -> bool:
    """Whether a browser would open a window of its own, rather than take this terminal."""
    try:
        found = webbrowser.get()
    except webbrowser.Error:
        return False
    return bool(os.environ.get("BROWSER")) or type(found) is not webbrowser.GenericBrowser
