"""``python -m faults.server FOLDER < faults``: carries out the faults named on stdin, a line each, as JSON on stdout.

One process imports everything and makes the small models, and forks for every run.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import zarr  # noqa: F401  imported here, so that no forked process pays for it

from faults.places import Tools
from faults.table import Fault, Faults


def main() -> None:
    """Read the faults, and say what became of each."""
    fast = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    faults = [Fault(**json.loads(line)) for line in sys.stdin]
    with tempfile.TemporaryDirectory(prefix="refam-faults-", dir=fast) as name:
        folder = Path(name)
        (folder / "tools").mkdir()
        tools = Tools(folder / "tools")
        assert tools.model and tools.loaded
        carried_out = Faults(tools, folder / "jobs")
        (folder / "jobs").mkdir()
        gc.freeze()  # what is forked shares these pages for longer
        for fault in faults:
            started = time.perf_counter()
            entries = carried_out.outcome(fault).entries()
            print(json.dumps({**entries, "seconds": round(time.perf_counter() - started, 2)}), flush=True)


if __name__ == "__main__":
    main()
