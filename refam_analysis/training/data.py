"""What the diffusion transformer is trained on: latents of scenes, computed once, and captions, drawn anew.

In whole rich scenes much of the loss is of textures, captions say some things of some objects, and a small model learns
little more from them than colours. So there are two further lessons, to be given one after the other: few objects, none
of them hidden, on faint textures, with captions that name nearly all of them; and whole scenes with such captions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from tqdm.auto import tqdm

from refam_analysis.files import DamagedFileError, file_checksum, read_json, write_json, written_whole
from refam_analysis.scenes import Scene, SceneOptions, Scenes, describe, describe_rich, render
from refam_analysis.scenes.sampling import Style

_CHUNK = 32

Describe = Callable[[Scene, np.random.Generator], str]
"""A caption of a scene, drawn at random."""


@dataclass(frozen=True)
class Lesson:
    """What scenes a training shows, and what it says of them.

    Attributes:
        scenes: drawn in turn: any scenes, and scenes in which one attribute is not enough to tell two objects apart.
        describe: makes their captions.
        texture: contrast of the textures behind rich scenes, see :func:`refam_analysis.scenes.render`.
    """

    scenes: tuple[SceneOptions, SceneOptions]
    describe: Describe
    texture: float = 1.0


def _in_turn(most: int, occlusion: float, style: Style) -> tuple[SceneOptions, SceneOptions]:
    return (
        SceneOptions(objects=(1, most), occlusion=occlusion, style=style),
        SceneOptions(objects=(2, most), occlusion=occlusion, shared_attribute=True, style=style),
    )


LESSONS: Mapping[str, Lesson] = MappingProxyType(
    {
        "plain": Lesson(_in_turn(4, 0.2, "plain"), describe),
        "plain-complete": Lesson(_in_turn(3, 0.2, "plain"), partial(describe, complete=0.7)),
        "plain-mixed": Lesson(_in_turn(4, 0.2, "plain"), partial(describe, complete=0.5)),
        "rich": Lesson(_in_turn(6, 0.4, "rich"), describe_rich),
        "rich-easy": Lesson(_in_turn(3, 0.0, "rich"), partial(describe_rich, complete=0.7), texture=0.2),
        "rich-complete": Lesson(_in_turn(6, 0.4, "rich"), partial(describe_rich, complete=0.5)),
    }
)
"""The lessons by their names; one that has the name of a style is that style's usual one."""


def training_scenes(number: int, size: int, lesson: str = "plain") -> list[Scene]:
    """The first ``number`` scenes of a lesson, drawn for pictures of ``size`` pixels."""
    chosen = LESSONS[lesson].scenes
    splits = [Scenes("train", length=number, size=size, options=options, kinds=()) for options in chosen]
    return [splits[i % len(splits)].draw(i)[0] for i in tqdm(range(number), desc="scenes", leave=False)]


class LatentScenes:
    """Training scenes with their latents, cached in a file of half-precision numbers.

    Args:
        folder: where the cache lies; it is completed when it is shorter than ``number``.
        vae: the trained autoencoder.
        number: how many scenes.
        size: height and width of the pictures in pixels.
        device: where to draw and encode.
        lesson: one of ``LESSONS``.

    Attributes:
        scenes: what the pictures show.
        latents: float16 (scene, channels, size / 4, size / 4), scaled to unit spread.
    """

    def __init__(
        self,
        folder: Path,
        vae: AutoencoderTiny,
        *,
        number: int,
        size: int,
        device: torch.device,
        lesson: str = "plain",
    ) -> None:
        self.scenes = training_scenes(number, size, lesson)
        self.lesson = LESSONS[lesson]
        path = folder / f"latents-{'' if lesson == 'plain' else f'{lesson}-'}{size}-{number}.npy"
        # The sum lies beside the cache, and after it: what has none, or another, is made again.
        sums = path.with_suffix(".json")
        if not _is_whole(path, sums):
            self._encode(path, vae, size, device)
            write_json(sums, {"latents": file_checksum(path)})
        self.latents = np.load(path, mmap_mode="r")

    @torch.inference_mode()
    def _encode(self, path: Path, vae: AutoencoderTiny, size: int, device: torch.device) -> None:
        vae = vae.to(device)
        parts = []
        for start in tqdm(range(0, len(self.scenes), _CHUNK), desc=f"latents at {size} pixels", unit="batch"):
            drawn = self.scenes[start : start + _CHUNK]
            images = render(drawn, size=size, device=device, texture=self.lesson.texture).images * 2 - 1
            latents = (vae.encoder(images) - vae.config.shift_factor) * vae.config.scaling_factor
            parts.append(latents.half().cpu().numpy())
        with written_whole(path) as place, place.open("wb") as file:
            np.save(file, np.concatenate(parts))

    def __len__(self) -> int:
        return len(self.scenes)

    def batch(self, number: int, rng: np.random.Generator) -> tuple[Tensor, list[str]]:
        """Latents float32 (number, channels, h, w) and a caption for each, both drawn at random."""
        chosen = rng.integers(len(self), size=number)
        latents = torch.from_numpy(self.latents[np.sort(chosen)].astype(np.float32))
        return latents, [self.lesson.describe(self.scenes[i], rng) for i in np.sort(chosen)]


def _is_whole(path: Path, sums: Path) -> bool:
    """Whether a file is there, with the checksum that lies beside it."""
    try:
        return path.is_file() and read_json(sums) == {"latents": file_checksum(path)}
    except (FileNotFoundError, DamagedFileError):
        return False


def strew(caption: str, words: list[str], rng: np.random.Generator, *, probability: float = 0.1) -> str:
    """With a small probability, put one or two words that mean nothing for the picture somewhere into the caption.

    Real captions hold many words that say nothing of the picture; here they also give the tokens beyond the scenes'
    vocabulary an embedding that has learnt to be ignored.

    >>> strew("a red ring", ["though"], np.random.default_rng(0), probability=0.0)
    'a red ring'
    """
    if not caption or rng.random() >= probability:
        return caption
    parts = caption.split()
    for _ in range(int(rng.integers(1, 3))):
        parts.insert(int(rng.integers(len(parts) + 1)), words[int(rng.integers(len(words)))])
    return " ".join(parts)
