"""What the diffusion transformer is trained on: latents of scenes, computed once, and captions, drawn anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from tqdm.auto import tqdm

from refam_analysis.files import DamagedFileError, file_checksum, read_json, write_json, written_whole
from refam_analysis.scenes import Scene, SceneOptions, Scenes, describe, describe_rich, render
from refam_analysis.scenes.sampling import Style

TRAINING_SCENES = (
    SceneOptions(objects=(1, 4), occlusion=0.2),
    SceneOptions(objects=(2, 4), occlusion=0.2, shared_attribute=True),
)
"""In turn: any scenes, and scenes in which one attribute is not enough to tell two objects apart."""
RICH_TRAINING_SCENES = (
    SceneOptions(objects=(1, 6), occlusion=0.4, style="rich"),
    SceneOptions(objects=(2, 6), occlusion=0.4, shared_attribute=True, style="rich"),
)
"""Likewise, of rich scenes."""
_CHUNK = 32


def training_scenes(number: int, size: int, style: Style = "plain") -> list[Scene]:
    """The first ``number`` scenes of the training, drawn for pictures of ``size`` pixels."""
    chosen = RICH_TRAINING_SCENES if style == "rich" else TRAINING_SCENES
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
        style: of the scenes, and so of their captions.

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
        style: Style = "plain",
    ) -> None:
        self.scenes = training_scenes(number, size, style)
        self.describe = describe_rich if style == "rich" else describe
        path = folder / f"latents-{'rich-' if style == 'rich' else ''}{size}-{number}.npy"
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
            images = render(self.scenes[start : start + _CHUNK], size=size, device=device).images * 2 - 1
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
        return latents, [self.describe(self.scenes[i], rng) for i in np.sort(chosen)]


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
