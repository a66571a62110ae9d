"""Saving and resuming a training run: one folder, safetensors and JSON, written so that a kill loses no checkpoint.

A checkpoint is of a whole step: what stops a training in the middle of one (an error, or an impatient second Ctrl-C)
leaves the checkpoint before. So a run that goes on is the same, number by number, as one that was never stopped.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refam_analysis.files import read_tensors, told_when_refused, write_tensors

CHECKPOINT_SECONDS = 180.0
"""Between two checkpoints of a training."""

_RANDOM = "random"


class Watch:
    """Says when a training ends, and when it is time for a checkpoint.

    Attributes:
        stopped: somebody asked it to end, by Ctrl-C or as batch systems do (SIGTERM).
    """

    def __init__(self, minutes: float) -> None:
        self.stopped = False
        self._end, self._saved = time.monotonic() + 60 * minutes, time.monotonic()

    @property
    def over(self) -> bool:
        """Whether no further step is to be taken."""
        return self.stopped or time.monotonic() >= self._end

    def is_due(self) -> bool:
        """Whether a checkpoint is due; the next one is counted from now."""
        due = time.monotonic() - self._saved >= CHECKPOINT_SECONDS
        if due:
            self._saved = time.monotonic()
        return due


@contextmanager
def steps_until(minutes: float) -> Iterator[Watch]:
    """Have a training end after a whole step: when its time is over, at Ctrl-C, and at SIGTERM.

    A second Ctrl-C ends it at once.

    Args:
        minutes: its time.
    """
    watch = Watch(minutes)

    def stop(number: int, frame: Any) -> None:
        if watch.stopped:
            raise KeyboardInterrupt
        watch.stopped = True

    ours = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM) if ours}
    try:
        yield watch
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def save_checkpoint(folder: Path, name: str, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write ``<name>.safetensors`` with ``state`` in its header, atomically."""
    path = folder / f"{name}.safetensors"
    with told_when_refused(path):
        folder.mkdir(parents=True, exist_ok=True)
    write_tensors(path, tensors, state)


def load_checkpoint(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The tensors and the state of a checkpoint, or None where there is none yet.

    Raises:
        DamagedFileError: it is not what was written.
    """
    try:
        return read_tensors(folder / f"{name}.safetensors")
    except FileNotFoundError:
        return None


def training_tensors(
    model: nn.Module, average: nn.Module | None, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Weights, their running average, the optimiser's moments and PyTorch's random numbers under flat names."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()} | {_RANDOM: torch.get_rng_state()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()} if average is not None else {}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    return tensors


def restore_training(
    tensors: dict[str, Tensor], model: nn.Module, average: nn.Module | None, optimizer: torch.optim.Optimizer
) -> None:
    """The inverse of :func:`training_tensors`; the optimiser keeps the hyperparameters that it was built with."""
    model.load_state_dict(_under("model.", tensors))
    if average is not None:
        average.load_state_dict(_under("average.", tensors))
    if _RANDOM in tensors:
        torch.set_rng_state(tensors[_RANDOM])
    state = optimizer.state_dict()
    state["state"] = {}
    for name, value in _under("optimizer.", tensors).items():
        index, slot = name.split(".", 1)
        state["state"].setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict(state)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the running average of the weights towards the weights."""
    for kept, current in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(current, 1 - decay)
    for buffer, newer in zip(average.buffers(), model.buffers(), strict=True):
        buffer.copy_(newer)


def append_log(folder: Path, entry: dict[str, Any]) -> None:
    """Add one line to ``log.jsonl``; one that was cut before it, as by a full disk, is taken out."""
    path = folder / "log.jsonl"
    with told_when_refused(path):
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as log:
            end = log.tell()
            log.seek(0)
            log.truncate(log.read().rfind(b"\n") + 1)
            try:
                log.write(json.dumps(entry).encode() + b"\n")
                log.flush()
            except OSError:
                log.truncate(end)
                raise


def append_command(folder: Path, module: str, **options: Any) -> None:
    """Add the command that a training was started with to ``log.jsonl``; where its folder lies is left out.

    Args:
        folder: of the training.
        module: of this package.
        options: of the command.
    """
    given = " ".join(f"--{name.replace('_', '-')} {value}".rstrip() for name, value in options.items())
    append_log(folder, {"model": module, "command": f"python -m refam_analysis.training.{module} {given}"})
