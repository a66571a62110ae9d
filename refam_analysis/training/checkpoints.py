"""Saving and resuming a training run: one folder, safetensors and JSON, written so that a kill loses no checkpoint."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def save_checkpoint(folder: Path, name: str, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write ``<name>.safetensors`` with ``state`` in its header, atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}.safetensors"
    partial = folder / f"{name}.partial"
    # Cloned, because safetensors refuses tensors that share memory, as tied embeddings do.
    kept = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    save_file(kept, partial, metadata={"state": json.dumps(state)})
    os.replace(partial, target)


def load_checkpoint(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The tensors and the state of a checkpoint, or None where there is none yet."""
    path = folder / f"{name}.safetensors"
    if not path.exists():
        return None
    from safetensors import safe_open

    with safe_open(path, framework="pt") as opened:
        metadata = opened.metadata()
    return load_file(path), json.loads(metadata["state"])


def training_tensors(model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights, their running average and the optimiser's moments under flat names."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{slot}": torch.as_tensor(value) for slot, value in slots.items()}
    return tensors


def restore_training(
    tensors: dict[str, Tensor], model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """The inverse of :func:`training_tensors`; the optimiser keeps the hyperparameters that it was built with."""
    model.load_state_dict(_under("model.", tensors))
    average.load_state_dict(_under("average.", tensors))
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
    """Add one line to ``log.jsonl``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(entry) + "\n")


def append_command(folder: Path, module: str, **options: Any) -> None:
    """Add the command that a training was started with to ``log.jsonl``; where its folder lies is left out.

    Args:
        folder: of the training.
        module: of this package.
        options: of the command.
    """
    given = " ".join(f"--{name.replace('_', '-')} {value}".rstrip() for name, value in options.items())
    append_log(folder, {"model": module, "command": f"python -m refam_analysis.training.{module} {given}"})
