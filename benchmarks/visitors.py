"""Many visitors at once: ``python -m benchmarks.visitors`` opens the app for each and has one sentence answered.

Nothing is drawn: a visitor is a page that is fetched and a websocket, so that the server is measured and not a browser.
It prints, a row a visitor, the seconds until the page was there, until the first answer and until the answer to the
visitor's own sentence, and the memory of the visitor's process: what is its own (USS), and its share when what several
processes use is divided among them (PSS).
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import pandas as pd
import psutil
import requests
import typer
from websockets.sync.client import connect

SENTENCES = ("the large circle", "the small one", "the green ring", "the cross on the left", "the white circle")


def run(visitors: int = 8) -> tuple[pd.DataFrame, dict[str, float]]:
    """Measure.

    Args:
        visitors: who come at the same moment.

    Returns:
        A row a visitor (seconds, and mebibytes); and, of the server and its mother process, the seconds until the
        address was told and the mebibytes of both.
    """
    token, began = secrets.token_hex(8), time.perf_counter()
    command = [sys.executable, "-m", "refam_analysis.cli", "probe", "--port", "0", "--no-browser"]
    environment = {**os.environ, "REFAM_PROBE_TOKEN": token, "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(  # noqa: S603 (our own command)
        [*command, "--visitors", str(visitors)], env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[-1].partition("?")[0]
            start = time.perf_counter() - began
            processes = psutil.Process(server.pid).children()
            (mother,) = [one for one in processes if "server_mother" in " ".join(one.cmdline())]
            with ThreadPoolExecutor(visitors) as pool:
                rows = list(pool.map(lambda number: visit(address, token, number), range(visitors)))
            used = [one.memory_full_info() for one in mother.children()]
            table = pd.DataFrame(rows)
            table["own_mebibytes"] = [one.uss / 2**20 for one in used]
            table["share_mebibytes"] = [one.pss / 2**20 for one in used]
            both = {
                "seconds_to_the_address": start,
                "server_mebibytes": psutil.Process(server.pid).memory_full_info().uss / 2**20,
                "mother_mebibytes": mother.memory_info().rss / 2**20,
            }
        finally:
            server.terminate()
    return table, both


def visit(address: str, token: str, number: int) -> dict[str, float]:
    """One visitor: the page, the answer that it begins with, and the answer to a sentence."""
    began = time.perf_counter()
    session = requests.Session()
    page = session.get(f"{address}?token={token}", timeout=600)
    page.raise_for_status()
    there = time.perf_counter() - began
    kernel = re.findall(r'"kernelId": "([\w-]+)"', page.text)[0]
    model = re.findall(r'"model_id": "(\w+)"', page.text)[0]
    cookie = "; ".join(f"{one.name}={one.value}" for one in session.cookies)
    place = f"{address.replace('http', 'ws', 1)}api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}"
    with connect(
        place, additional_headers={"Cookie": cookie}, open_timeout=600, max_size=None, ping_interval=None
    ) as line:
        line.send(_message({"method": "request_state"}, model))
        state = _wait(line, lambda state: "Answered" in state.get("status", {}).get("text", ""))
        first = time.perf_counter() - began
        chosen = {**state["chosen"], "expression": SENTENCES[number % len(SENTENCES)]}
        asked = time.perf_counter()
        line.send(_message({"method": "update", "state": {"chosen": chosen}, "buffer_paths": []}, model))
        _wait(line, lambda state: state.get("status", {}).get("kind") == "busy")
        _wait(line, lambda state: "Answered" in state.get("status", {}).get("text", ""))
        return {"page": there, "first_answer": first, "own_sentence": time.perf_counter() - asked}


def _message(data: dict[str, Any], model: str) -> str:
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "comm_msg", "username": "", "session": "s", "date": "", "version": "5.3"}  # fmt: skip # noqa: E501
    content = {"comm_id": model, "data": data}
    return json.dumps({"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell", "buffers": []})  # fmt: skip # noqa: E501


def _wait(line: Any, reached: Any) -> dict[str, Any]:
    """All that was told of the probe until something is reached."""
    told: dict[str, Any] = {}
    while True:
        received = line.recv(600)
        if isinstance(received, bytes):  # parts with binary buffers: their number, where each begins, then the JSON
            count = int.from_bytes(received[:4], "big")
            begins = [int.from_bytes(received[4 + 4 * place : 8 + 4 * place], "big") for place in range(count)]
            received = received[begins[0] : begins[1] if count > 1 else None]
        whole = json.loads(received)
        if whole["header"]["msg_type"] != "comm_msg":
            continue
        state = whole["content"]["data"].get("state", {})
        told |= state
        if reached(state):
            return told


def main(visitors: Annotated[int, typer.Option(help="Who come at the same moment.", min=1)] = 8) -> None:
    """Measure, and print."""
    table, both = run(visitors)
    typer.echo(table.round(2).to_string(index=False))
    typer.echo(f"median: {table.median().round(2).to_dict()}")
    typer.echo(f"server: { {name: round(value, 1) for name, value in both.items()} }")
    typer.echo(f"load before the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    typer.run(main)
