"""Jupyter, on this machine alone, with a notebook whose one cell shows the probe: Lab, or the classic Notebook 7."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest
from browser.pages import Visit, watch
from playwright.sync_api import Browser

CELL = 'import refam_analysis as ra\nprobe = ra.Probe("embedded")\nprobe'
ADDRESSES = {"jupyterlab": "lab/tree", "notebook": "notebooks"}
"""Module that is started -> where it shows a notebook."""
SLOW = 120_000
"""Milliseconds: for an answer on a busy machine."""
FIRST = 360_000
"""Milliseconds: for the first answer, which waits for libraries and the model, read by a kernel that has just begun."""


@contextmanager
def jupyter(folder: Path, module: Literal["jupyterlab", "notebook"]) -> Iterator[str]:
    """Serve the notebook.

    Args:
        folder: empty; the notebook, and the reader's own settings, lie in it.
        module: Lab or Notebook.

    Yields:
        The address of the notebook, token included.
    """
    work, hidden = folder / "work", folder / "hidden"
    work.mkdir()
    cell = {"cell_type": "code", "id": "probe", "execution_count": None, "metadata": {}, "outputs": [], "source": CELL}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = {"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
    (work / "probe.ipynb").write_text(json.dumps(notebook))
    settings = hidden / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    token, port = secrets.token_hex(16), _free_port()
    folders = {"CONFIG_DIR": "config", "RUNTIME_DIR": "runtime", "DATA_DIR": "data"}
    environment = {**os.environ, **{f"JUPYTER_{name}": str(hidden / place) for name, place in folders.items()}}
    environment |= {"JUPYTERLAB_SETTINGS_DIR": str(hidden / "settings"), "IPYTHONDIR": str(hidden / "ipython")}
    environment |= {"JUPYTERLAB_WORKSPACES_DIR": str(hidden / "workspaces"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", module, "--no-browser", "--allow-root", f"--ServerApp.root_dir={work}"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", f"--IdentityProvider.token={token}"]
    with (hidden / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=work)
        try:
            _wait_for(f"http://127.0.0.1:{port}/api?token={token}", server, hidden / "log")
            yield f"http://127.0.0.1:{port}/{ADDRESSES[module]}/probe.ipynb?token={token}"
        finally:
            server.terminate()
            server.wait(30)


@contextmanager
def probe_in(browser: Browser, address: str) -> Iterator[Visit]:
    """Open the notebook and run its cell, so that the probe stands there with its first answer."""
    context = browser.new_context(viewport={"width": 1400, "height": 1800}, accept_downloads=True)
    context.set_default_timeout(SLOW)
    visit = Visit(context.new_page())
    watch(visit, "http://127.0.0.1:")
    page = visit.page
    page.goto(address + "&reset")
    page.locator(".jp-Notebook .jp-InputArea-editor").click()
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
    page.keyboard.press("Control+b")
    page.keyboard.press("Shift+Enter")
    page.locator(".refam-status[data-kind=done]").wait_for(timeout=FIRST)
    yield visit
    context.close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if server.poll() is not None:
            pytest.fail(f"Jupyter ended:\n{log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"Jupyter does not answer:\n{log.read_text()[-2000:]}")
