"""Has the server bring faults about, from a program or a test that may have threads and so must not fork."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from faults.table import Fault

ROOT = Path(__file__).parents[2]


def outcomes(faults: Iterable[Fault]) -> Iterator[dict[str, Any]]:
    """What became of each fault, in their order, as it comes.

    Args:
        faults: to bring about.

    Raises:
        RuntimeError: the server itself failed, for example because a job fails undisturbed.
    """
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    lines = "".join(json.dumps(vars(fault)) + "\n" for fault in faults)
    command = [sys.executable, "-m", "faults.server"]
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as server:  # fmt: skip
        assert server.stdin and server.stdout and server.stderr
        server.stdin.write(lines)
        server.stdin.close()
        yield from map(json.loads, server.stdout)
        said = server.stderr.read()
    if server.returncode:
        raise RuntimeError(f"The server of faults failed:\n{said[-3000:]}")
