"""The loop that both autoencoders are trained by: pictures in `autoencoder`, clips in `video_autoencoder`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from refam_analysis.training.checkpoints import (
    append_log,
    load_checkpoint,
    restore_training,
    save_checkpoint,
    steps_until,
    training_tensors,
)

_PEAK = 2e-3


def train_rebuilding(
    out: Path,
    name: str,
    model: nn.Module,
    loss: Callable[[int], tuple[Tensor, Tensor]],
    *,
    minutes: float,
    steps: int,
) -> None:
    """Train, or go on from the newest checkpoint, until ``steps`` or ``minutes`` are over, or Ctrl-C.

    Args:
        out: the working folder.
        name: of the checkpoints, and in the log.
        model: the autoencoder, changed in place.
        loss: of the step with this number, how badly its batch is rebuilt, and how far its latents are from zero mean
            and unit spread.
        minutes: after which it stops.
        steps: length of the learning-rate schedule.

    Raises:
        KeyboardInterrupt: it was stopped; the checkpoint is written.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=_PEAK, weight_decay=1e-4)
    done = 0
    if (found := load_checkpoint(out, name)) is not None:
        restore_training(found[0], model, None, optimizer)
        done = int(found[1]["step"])
    progress = tqdm(total=steps, initial=done, desc=name.replace("_", " "), unit="step")
    with steps_until(minutes) as watch, progress:
        while done < steps and not watch.over:
            for group in optimizer.param_groups:
                group["lr"] = _PEAK * min(1.0, (done + 1) / 100) * max(0.02, 1 - done / steps)
            error, moments = loss(done)
            optimizer.zero_grad(set_to_none=True)
            (error + 0.05 * moments).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            done += 1
            progress.update()
            if done % 100 == 0:
                append_log(out, {"model": name, "step": done, "loss": error.item(), "moments": moments.item()})
                progress.set_postfix(loss=f"{error.item():.4f}")
            if watch.is_due():
                save_checkpoint(out, name, training_tensors(model, None, optimizer), {"step": done})
        save_checkpoint(out, name, training_tensors(model, None, optimizer), {"step": done})
    if watch.stopped:
        raise KeyboardInterrupt
