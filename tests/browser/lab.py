"""One JupyterLab server for the browser tests: start it, open notebooks in it, end it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
import psutil
from notebook_page import LIGHT, Notebook
from playwright.sync_api import Browser

KERNEL = "mtlviz-tests"


class Lab:
    """One JupyterLab server, shared by a test session.

    Args:
        folder: an empty folder for everything that the server writes: home, settings, kernelspec, notebooks.
        browser: opens the notebooks; it is not closed here.

    Raises:
        RuntimeError: the server did not answer in 60 s.
    """

    def __init__(self, folder: Path, browser: Browser) -> None:
        self.folder, self.browser = folder, browser
        self.root = folder / "notebooks"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = self._start_server()
        try:
            self._wait_for_server(timeout=60)
        except BaseException:
            self.close()
            raise

    def _start_server(self) -> subprocess.Popen[bytes]:
        home, data, settings = self.folder / "home", self.folder / "data", self.folder / "settings"
        for place in (home, data, settings, self.root, self.folder / "runtime"):
            place.mkdir(parents=True)
        _write_kernelspec(data)
        _write_settings(settings)
        private = {
            "HOME": home,
            "JUPYTER_CONFIG_DIR": self.folder / "config",
            "JUPYTER_DATA_DIR": data,
            "JUPYTER_RUNTIME_DIR": self.folder / "runtime",
            "JUPYTERLAB_SETTINGS_DIR": settings,
            "JUPYTERLAB_WORKSPACES_DIR": self.folder / "workspaces",
            "IPYTHONDIR": home / ".ipython",
        }
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "PYTEST_"))}
        environment |= {key: str(value) for key, value in private.items()}
        command = [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={self.port}"),
            *("--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={self.root}"),
            *("--IdentityProvider.token=", "--ServerApp.password=", "--ServerApp.terminals_enabled=False"),
            *("--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"),
            "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
        ]
        with (self.folder / "server.log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=self.root, env=environment)

    def _wait_for_server(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        while time.monotonic() < end and self.server.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/api", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        log = (self.folder / "server.log").read_text(errors="replace")[-3000:]
        raise RuntimeError(f"JupyterLab did not answer on {self.url} in {timeout:.0f} s. The end of its log:\n{log}")

    def open(self, cells: Sequence[str], *, name: str, width: int = 1200, height: int = 900) -> Notebook:
        """A new notebook with these code cells, opened in a fresh page, its kernel idle."""
        path = self.root / f"{name}.ipynb"
        document = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        document.metadata["kernelspec"] = {"name": KERNEL, "display_name": KERNEL, "language": "python"}
        nbformat.write(document, path)
        return Notebook(self.browser, self.url, path, width=width, height=height)

    def close(self) -> None:
        """Ends server and kernels by their process ids; safe to call twice."""
        try:
            family = psutil.Process(self.server.pid)
            processes = [*family.children(recursive=True), family]
        except psutil.NoSuchProcess:
            processes = []
        for process in processes:
            _signal(process.terminate)
        _, alive = psutil.wait_procs(processes, timeout=5)
        for process in alive:
            _signal(process.kill)
        psutil.wait_procs(alive, timeout=5)
        self.server.wait(timeout=5)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return


def _write_kernelspec(data: Path) -> None:
    folder = data / "kernels" / KERNEL
    folder.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": KERNEL, "language": "python"}))


def _write_settings(settings: Path) -> None:
    choices = {
        "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "@jupyterlab/apputils-extension/themes": {"adaptive-theme": False, "theme": LIGHT},
        "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
    }
    for name, values in choices.items():
        path = settings / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
