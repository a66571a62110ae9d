"""What is compared: a plain forward pass, this library's recorder, and two ways in which other tools take attention.

The others are written here as they are usually done, on the same seam, and none is slowed down: the first computes the
whole softmax of every block and takes the block's output from it; the second does so for 256 queries at a time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from refam_analysis.models import TokenLayout
from refam_analysis.recording import Recorder
from refam_analysis.recording.store import RecordingStore

MAPS = ("text_to_image", "image_to_text")
SUMMARIES = ("entropy", "received_from_text", "received_from_image", "uniformity_from_text", "uniformity_from_image")
CHUNK = 256


@dataclass(frozen=True)
class Geometry:
    """A FLUX-shaped transformer and its sequence.

    Attributes:
        double, single: numbers of blocks.
        heads: of 128 channels.
        text: tokens.
        side: of the square of image tokens.
    """

    double: int = 2
    single: int = 2
    heads: int = 8
    text: int = 512
    side: int = 32

    @property
    def tokens(self) -> int:
        """Length of the joint sequence."""
        return self.text + self.side**2

    @property
    def layout(self) -> TokenLayout:
        """Text, then image."""
        return TokenLayout(text=slice(0, self.text), image=slice(self.text, self.tokens), grid=(self.side, self.side))


@dataclass(frozen=True)
class Subject:
    """A transformer with the arguments of one forward pass."""

    transformer: FluxTransformer2DModel
    arguments: Mapping[str, torch.Tensor]
    geometry: Geometry

    def run(self) -> torch.Tensor:
        """The plain forward pass."""
        with torch.inference_mode():
            return self.transformer(**self.arguments).sample


def make_subject(geometry: Geometry, *, device: str, dtype: torch.dtype, seed: int = 0) -> Subject:
    """Random weights and inputs."""
    torch.manual_seed(seed)
    side = geometry.side
    with torch.device(device):
        transformer = FluxTransformer2DModel(
            in_channels=64, num_layers=geometry.double, num_single_layers=geometry.single, attention_head_dim=128,
            num_attention_heads=geometry.heads, joint_attention_dim=512, pooled_projection_dim=128,
            axes_dims_rope=(16, 56, 56),
        ).to(dtype).eval()  # fmt: skip
        ids = torch.cartesian_prod(torch.zeros(1), torch.arange(float(side)), torch.arange(float(side)))
        arguments = {
            "hidden_states": torch.randn(1, side**2, 64, dtype=dtype),
            "encoder_hidden_states": torch.randn(1, geometry.text, 512, dtype=dtype),
            "pooled_projections": torch.randn(1, 128, dtype=dtype),
            "timestep": torch.tensor([0.6], dtype=dtype),
            "img_ids": ids.to(dtype),
            "txt_ids": torch.zeros(geometry.text, 3, dtype=dtype),
        }
    return Subject(transformer, arguments, geometry)


def recorded(subject: Subject, keep: tuple[str, ...]) -> object:
    """This library's recorder, every head of every block."""
    with Recorder(subject.transformer, subject.geometry.layout, keep=keep) as recorder:
        subject.run()
    return recorder


def streamed(subject: Subject, keep: tuple[str, ...] = ("full",)) -> object:
    """This library's recorder, written to disk block by block."""
    with tempfile.TemporaryDirectory(dir=".", prefix=".benchmark-") as folder:
        sink = RecordingStore(Path(folder) / "run.zarr", noise_levels=[0.6])
        with Recorder(subject.transformer, subject.geometry.layout, keep=keep, sink=sink) as recorder:
            subject.run()
        recorder.recording()
    return None


class _TakenByHand(TorchFunctionMode):
    """Answers every attention call from a softmax computed here, ``chunk`` queries at a time."""

    def __init__(self, layout: TokenLayout, take: str, chunk: int | None) -> None:
        super().__init__()
        self._layout, self._take, self._chunk = layout, take, chunk
        self.taken: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **kwargs)
        query, key, value = (kwargs.get(name, args[i] if i < len(args) else None) for i, name in enumerate(_OPERANDS))
        return self._attend(query, key, value)

    def _attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        length, step = query.shape[-2], self._chunk or query.shape[-2]
        taken = {"maps": _Maps, "summaries": _Summaries}[self._take](self._layout)
        outputs = []
        for start in range(0, length, step):
            scores = query[:, :, start : start + step] @ key.mT * query.shape[-1] ** -0.5
            attention = torch.softmax(scores.float(), -1)
            taken.add(attention, start)
            outputs.append(attention.to(value.dtype) @ value)
        self.taken.append(taken.result())
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)


_OPERANDS = ("query", "key", "value")


class _Maps:
    """The two text-image directions."""

    def __init__(self, layout: TokenLayout) -> None:
        self._layout = layout
        self._parts: dict[str, list[torch.Tensor]] = {"text": [], "image": []}

    def add(self, attention: torch.Tensor, start: int) -> None:
        for rows, side, other in (("text", self._layout.text, self._layout.image),
                                  ("image", self._layout.image, self._layout.text)):  # fmt: skip
            first, last = max(side.start - start, 0), min(side.stop - start, attention.shape[2])
            if first < last:
                self._parts[rows].append(attention[:, :, first:last, other].cpu().clone())

    def result(self) -> dict[str, torch.Tensor]:
        return {name: torch.cat(parts, dim=2) for name, parts in self._parts.items()}


class _Summaries:
    """Entropy of every row; received mass and evenness of every key from both sides."""

    def __init__(self, layout: TokenLayout) -> None:
        self._layout = layout
        self._entropy: list[torch.Tensor] = []
        self._mass: dict[str, torch.Tensor] = {}
        self._weighted: dict[str, torch.Tensor] = {}

    def add(self, attention: torch.Tensor, start: int) -> None:
        product = torch.special.entr(attention)
        self._entropy.append(product.sum(-1).cpu())
        for name, side in (("text", self._layout.text), ("image", self._layout.image)):
            rows = slice(max(side.start - start, 0), max(0, min(side.stop - start, attention.shape[2])))
            mass, weighted = attention[:, :, rows].sum(2), product[:, :, rows].sum(2)
            self._mass[name] = self._mass.get(name, 0) + mass
            self._weighted[name] = self._weighted.get(name, 0) + weighted

    def result(self) -> dict[str, torch.Tensor]:
        taken = {"entropy": torch.cat(self._entropy, dim=2)}
        for side, mass in self._mass.items():
            taken[f"received_from_{side}"] = mass.cpu()
            taken[f"uniformity_from_{side}"] = torch.exp(mass.log() + self._weighted[side] / mass).cpu()
        return taken


def by_hand(subject: Subject, take: str, chunk: int | None) -> object:
    """The attention as other tools take it."""
    mode = _TakenByHand(subject.geometry.layout, take, chunk)
    with mode:
        subject.run()
    return mode.taken


VARIANTS: Mapping[str, Callable[[Subject], object]] = {
    "plain": Subject.run,
    "maps": partial(recorded, keep=MAPS),
    "maps, whole softmax": partial(by_hand, take="maps", chunk=None),
    "maps, softmax in chunks": partial(by_hand, take="maps", chunk=CHUNK),
    "summaries": partial(recorded, keep=SUMMARIES),
    "summaries, whole softmax": partial(by_hand, take="summaries", chunk=None),
    "summaries, softmax in chunks": partial(by_hand, take="summaries", chunk=CHUNK),
    "maps and summaries": partial(recorded, keep=(*MAPS, *SUMMARIES)),
}
"""By name; what stands before the comma is kept, what stands behind it says how, and nothing that it is ours."""
