"""The loop that the diffusion transformers are trained by: a learning rate, a running average, checkpoints, a log.

What is trained and by which loss is said by a subclass: images in `dit`, clips in `video`. A step's randomness depends
on the seed and on its number alone, so a run that goes on is the same as one that was never stopped.
"""

from __future__ import annotations

import math
import shutil
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm
from transformers import T5Tokenizer

from refam_analysis.files import written_folder
from refam_analysis.scenes.sampling import Style
from refam_analysis.training.checkpoints import (
    append_log,
    load_checkpoint,
    restore_training,
    save_checkpoint,
    steps_until,
    training_tensors,
    update_average,
)
from refam_analysis.training.data import strew
from refam_analysis.training.text import TEXT_LENGTH, empty_words


@dataclass(frozen=True)
class Hardware:
    """What a training computes on, and how.

    Attributes:
        device: for example "cpu" or "cuda".
        compiled: whether the model is compiled, which takes minutes and, on a CPU, a C++ compiler.
        bfloat16: whether products of matrices are computed in bfloat16, as autocast does it; weights and losses stay
            in float32. Worth it on GPUs and on CPUs with matrix units (AMX), and slower elsewhere.
    """

    device: str = "cpu"
    compiled: bool = False
    bfloat16: bool = False

    @contextmanager
    def precision(self) -> Iterator[None]:
        """Compute what is inside as the attributes say."""
        if not self.bfloat16:
            yield
            return
        kind = self.device.partition(":")[0]
        with warnings.catch_warnings(), torch.autocast(kind, dtype=torch.bfloat16):
            # Of norms whose weights stay in float32, as is wished for.
            warnings.filterwarnings("ignore", "Mismatch dtype between input and weight")
            with _attention_in_float32() if kind == "cpu" else nullcontext():
                yield


@contextmanager
def _attention_in_float32() -> Iterator[None]:
    """On a CPU, PyTorch's attention takes four times as long backwards in bfloat16 as in float32."""
    fused = functional.scaled_dot_product_attention

    def attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **further: Any) -> Tensor:
        if attn_mask is not None and attn_mask.is_floating_point():
            attn_mask = attn_mask.float()
        with torch.autocast("cpu", enabled=False):
            mixed = fused(query.float(), key.float(), value.float(), attn_mask=attn_mask, **further)
        return mixed.to(value.dtype)

    functional.scaled_dot_product_attention = attention  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = fused


DEFAULT_HARDWARE = Hardware()


class Latents(Protocol):
    """What a training draws its batches from."""

    def batch(self, number: int, rng: np.random.Generator) -> tuple[Tensor, list[str]]:
        """Latents (number, ...), float32, and a caption for each, all drawn at random."""


def copy_parts(folder: Path, out: Path, names: Sequence[str]) -> None:
    """Put parts of an exported model that are not trained into a working folder that lacks them."""
    for name in names:
        if not (out / name).exists():
            with written_folder(out / name) as place:
                shutil.copytree(folder / name, place, dirs_exist_ok=True)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Warm-up over 200 steps, then flat, then linear decay over the last 40 % of ``steps``."""
    return peak * min(1.0, (step + 1) / 200) * min(1.0, max(0.02, (1 - step / steps) / 0.4))


class FlowTrainer(ABC):
    """One training run in one folder; :meth:`run` goes on from the newest checkpoint.

    Attributes:
        name: of its checkpoints, and in the log.
        average: the running average of the weights, which is what ships.
        tokenizer: of the captions.
    """

    name: ClassVar[str]

    def __init__(
        self,
        out: Path,
        make_parts: Callable[[], nn.Module],
        tokenizer: T5Tokenizer,
        *,
        seed: int,
        peak: float,
        hardware: Hardware = DEFAULT_HARDWARE,
        style: Style = "plain",
    ) -> None:
        torch.manual_seed(seed)
        device = torch.device(hardware.device)
        self.out, self.seed, self.peak, self.style = out, seed, peak, style
        self.hardware, self.device = hardware, device
        self.tokenizer = tokenizer
        self.model: Any = make_parts().to(device)
        self.forward: Any = torch.compile(self.model) if hardware.compiled else self.model
        self.average: Any = make_parts().to(device)
        self.average.load_state_dict(self.model.state_dict())
        trained = [p for p in self.model.parameters() if p.requires_grad]
        matrices = [p for p in trained if p.ndim > 1]
        vectors = [p for p in trained if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.985), fused=True)
        self.strewn = empty_words(style)
        self.step, self.samples = 0, 0
        if (found := load_checkpoint(out, self.name)) is not None:
            restore_training(found[0], self.model, self.average, self.optimizer)
            self.step, self.samples = int(found[1]["step"]), int(found[1]["samples"])

    @abstractmethod
    def loss(self, latents: Tensor, captions: list[str], draws: torch.Generator) -> Tensor:
        """Of one batch, on the training's device; all its randomness comes from ``draws``."""

    @abstractmethod
    def exported(self, folder: Path) -> tuple[nn.Module, nn.Module]:
        """Transformer and T5 encoder of a model of this kind that was exported, in float32."""

    def begin_with(self, folder: Path) -> None:
        """Take over the weights of an exported model, as the folders are that ship.

        Nothing happens where the run has steps of its own. The schedule and the optimiser start anew.
        """
        if self.step:
            return
        transformer, t5 = self.exported(folder)
        for parts in (self.model, self.average):
            parts.transformer.load_state_dict(transformer.state_dict())
            parts.t5.load_state_dict(t5.state_dict())

    def save(self) -> None:
        """Write the checkpoint from which the next run goes on."""
        tensors = training_tensors(self.model, self.average, self.optimizer)
        save_checkpoint(self.out, self.name, tensors, {**self._state(), "seed": self.seed})

    def put_aside(self) -> None:
        """Write the averaged weights of this step, which later checkpoints do not replace."""
        tensors = {f"average.{name}": value for name, value in self.average.state_dict().items()}
        save_checkpoint(self.out, f"{self.name}-{self.step}", tensors, self._state())

    def _state(self) -> dict[str, Any]:
        return {"step": self.step, "samples": self.samples, "style": self.style}

    def tokens(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Ids (caption, 32), padded, and cut where a caption is too long; and which of them are no padding."""
        padded = self.tokenizer(
            captions, padding="max_length", max_length=TEXT_LENGTH, truncation=True, return_tensors="pt"
        )
        return padded.input_ids.to(self.device), padded.attention_mask.bool().to(self.device)

    def update(self, data: Latents, batch: int, steps: int) -> float:
        """One step of the optimiser; the loss before it. The step's randomness depends on the seed and its number."""
        rng = np.random.default_rng([self.seed, self.step])
        draws = torch.Generator().manual_seed(int(rng.integers(2**62)))
        latents, captions = data.batch(batch, rng)
        captions = [strew(caption, self.strewn, rng) for caption in captions]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, steps, self.peak)
        with self.hardware.precision():
            loss = self.loss(latents.to(self.device), captions, draws)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        self.samples += batch
        update_average(self.average, self.model, min(0.999, self.step / (self.step + 10)))
        return loss.item()

    def run(
        self,
        data: Latents,
        *,
        batch: int,
        steps: int,
        minutes: float,
        until: int | None = None,
        probe: Callable[[], dict[str, float]] | None = None,
        probe_every: int = 0,
        keep: Collection[int] = (),
    ) -> None:
        """Train until ``steps`` or ``minutes`` are over, or Ctrl-C; a checkpoint every three minutes and at the end.

        ``until`` stops at an earlier step, from which a later run goes on in the same schedule. What ``probe`` gives is
        logged every ``probe_every`` steps; 0 is never. At the steps of ``keep`` the averaged weights are put aside.
        """
        recent, logged = [], time.monotonic()
        progress = tqdm(total=steps, initial=self.step, desc="transformer", unit="step", mininterval=5)
        started, first = time.monotonic(), self.samples
        with steps_until(minutes) as watch, progress:
            while self.step < min(steps, until or steps) and not watch.over:
                recent.append(self.update(data, batch, steps))
                progress.update()
                if not math.isfinite(recent[-1]):
                    raise FloatingPointError(f"The loss is {recent[-1]} at step {self.step}: lower the learning rate.")
                if self.step % 100 == 0:
                    rate = (self.samples - first) / (time.monotonic() - started)
                    progress.set_postfix(loss=f"{np.mean(recent):.4f}", rate=f"{rate:.0f}/s")
                    append_log(self.out, {"model": self.name, "step": self.step, "samples": self.samples,
                                          "loss": float(np.mean(recent)), "rate": rate,
                                          "seconds": time.monotonic() - logged})  # fmt: skip
                    recent.clear()
                    logged = time.monotonic()
                if probe and probe_every and self.step % probe_every == 0:
                    append_log(self.out, {"model": self.name, "step": self.step, "samples": self.samples, **probe()})
                if self.step in keep:
                    self.put_aside()
                if watch.is_due():
                    self.save()
            self.save()
        if watch.stopped:
            raise KeyboardInterrupt
