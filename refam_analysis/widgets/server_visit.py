"""The process of one visitor: a kernel in a folder of its own, with limits, that shows a probe.

Visitors share no process and so no state. What they share is the model, as far as processes can: where processes can
be forked (`server_mother`), the kernel finds it loaded, in memory that all of them read and none of them copies;
elsewhere each loads it. A lock file lets one forward pass run at a time, so that visitors wait for each other in turn
instead of slowing each other down on the same cores.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refam_analysis.errors import RefamError

if TYPE_CHECKING:
    from refam_analysis.models import DiffusionModel
    from refam_analysis.widgets.probe import Probe

FOLDER_VARIABLE = "REFAM_PROBE_FOLDER"
"""The server's temporary folder; all that is ever written lies in it."""
SOURCE_VARIABLE = "REFAM_PROBE_MODEL"
MEMORY_BYTES = 64 * 2**20
"""Of forward passes that one visitor's probe remembers."""
ADDRESS_SPACE = 3 * 2**30
"""Bytes that a visitor's process may ask for beyond what it begins with, on Linux with a model on the CPU."""
FILE_BYTES = 256 * 2**20
"""Of the largest file that it may write."""


class NoVisitError(RefamError, RuntimeError):
    """The probe of a visit was asked for outside the server."""

    def __init__(self) -> None:
        super().__init__("There is no visit: start the app with `refam probe`, or use refam_analysis.Probe.")


@dataclass(frozen=True)
class Prepared:
    """What a kernel finds loaded.

    Attributes:
        model: on its device.
        segmenter: the embedded one.
    """

    model: DiffusionModel
    segmenter: Any


_prepared: Prepared | None = None


def prepare(source: str) -> Prepared:
    """Load what every visitor needs.

    Args:
        source: of the model, as in :class:`~refam_analysis.widgets.server_settings.ServerSettings`.

    Raises:
        The errors of :func:`refam_analysis.load_model`.
    """
    global _prepared
    from refam_analysis.models import load_model, usual_device
    from refam_analysis.segmentation import load_segmenter

    model = load_model(source, device=usual_device(source))
    model.pipeline.set_progress_bar_config(disable=True)  # a kernel's output would be a message to every page
    _prepared = Prepared(model, load_segmenter("embedded"))
    return _prepared


def take_turns(model: DiffusionModel, lock: Path) -> None:
    """Let one process at a time run the model's transformer. Called in each of them, for locks do not outlive a fork.

    Args:
        model: whose forward passes wait.
        lock: a file, the same for all processes; the operating system frees it where one of them dies.
    """
    from filelock import FileLock

    turn = FileLock(lock)
    model.transformer.register_forward_pre_hook(lambda *_: turn.acquire(poll_interval=0.01) and None)
    model.transformer.register_forward_hook(lambda *_: turn.release(), always_call=True)


def open_probe() -> Probe:
    """The probe of this visit; the only line of the served notebook.

    Raises:
        NoVisitError: not in a kernel of the server.
    """
    from refam_analysis.widgets.probe import Probe

    if FOLDER_VARIABLE not in os.environ:
        raise NoVisitError
    found = _prepared or prepare(os.environ[SOURCE_VARIABLE])
    take_turns(found.model, Path(os.environ[FOLDER_VARIABLE]) / "turn.lock")
    return Probe(found.model, segmenter=found.segmenter, memory=MEMORY_BYTES, local_files=False)


def run_kernel(connection_file: str, folder: Path, **options: Any) -> None:
    """Be the kernel of a visit, until it ends.

    Args:
        connection_file: as Jupyter's kernels are given it.
        folder: the visit's own, which becomes its home and its working directory.
        options: of ``IPKernelApp``.
    """
    from ipykernel.kernelapp import IPKernelApp

    settle(folder)
    limit_resources()
    app = IPKernelApp.instance(
        connection_file=connection_file, extra_extensions=[], log_level="ERROR", **options
    )  # fmt: skip
    app.config.HistoryManager.enabled = False
    app.initialize([])
    app.start()


def settle(folder: Path) -> None:
    """Make a folder this process's home, cache and place for temporary files, and go there."""
    os.environ.update(own_places(folder))
    os.environ["HF_HUB_OFFLINE"] = "1"  # no visitor can make us fetch anything
    tempfile.tempdir = None
    os.chdir(folder)


def own_places(folder: Path) -> dict[str, str]:
    """Every name in the environment that tells a library of ours where to write; and the hub's, where it reads."""
    places = {
        "HOME": ".", "USERPROFILE": ".", "TMPDIR": ".", "TEMP": ".", "TMP": ".", "IPYTHONDIR": "ipython",
        "JUPYTER_CONFIG_DIR": "jupyter", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "run",
        "MPLCONFIGDIR": "matplotlib", "TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_HOME": "triton",
        "XDG_CACHE_HOME": "cache", "XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "share",
    }  # fmt: skip
    fetched = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    return {**{name: str(folder / place) for name, place in places.items()}, "HF_HOME": os.path.expanduser(fetched)}


def limit_resources() -> None:
    """Bound what this process can take of the machine, where the operating system knows such limits.

    A picture that unpacks to more than is there ends in a MemoryError of its own visitor, and in nobody else's.
    """
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    if _prepared is None or _prepared.model.transformer.device.type != "cpu" or sys.platform != "linux":
        return  # libraries that are still to be loaded, and a GPU's driver, reserve more addresses than there is memory
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + ADDRESS_SPACE, held + ADDRESS_SPACE))


if __name__ == "__main__":
    _place = Path(tempfile.mkdtemp(prefix="visit-", dir=Path(os.environ[FOLDER_VARIABLE]) / "visits"))
    run_kernel(sys.argv[1], _place)
