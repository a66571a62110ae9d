"""What the video model is trained on: moving scenes, their latents, computed once, and captions, drawn anew.

These clips are simpler than those of :class:`refam_analysis.scenes.MovingScenes`: nothing is planned to happen in them
but that objects move, so that thousands are drawn in minutes. They share no scene with any of its splits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLMochi
from torch import Tensor
from tqdm.auto import tqdm

from refam_analysis.files import written_whole
from refam_analysis.scenes import MovingOptions, Scene, SceneObject, SceneOptions, describe, describe_rich, render
from refam_analysis.scenes.expressions import PLACES, looks
from refam_analysis.scenes.motion import MovingScene, set_in_motion
from refam_analysis.scenes.moving import DIRECTIONS, SLOWEST
from refam_analysis.scenes.sampling import Style, sample_scene

MOTION_WORDS = ("moving", "up", "down")
"""Words of moving scenes that still ones have not."""

CLIP_OPTIONS: dict[Style, tuple[SceneOptions, ...]] = {
    "plain": (SceneOptions(objects=(1, 4)), SceneOptions(objects=(2, 4), shared_attribute=True)),
    "rich": (
        SceneOptions(objects=(1, 4), style="rich"),
        SceneOptions(objects=(2, 4), shared_attribute=True, style="rich"),
    ),
}
"""In turn: any scenes, and scenes in which one attribute is not enough to tell two objects apart."""

_SEED = 44
"""Another than those of the splits."""
_CHUNK = 8


def training_motion(number: int, style: Style = "plain") -> MovingScene:
    """Moving scene ``number`` of the training, the same on every machine.

    >>> training_motion(3).at(0).objects == training_motion(3).scene.objects
    True
    """
    rng = np.random.default_rng([_SEED, number])
    chosen, pace = CLIP_OPTIONS[style], MovingOptions()
    while True:
        scene = sample_scene(rng, chosen[number % len(chosen)])
        actor = int(rng.integers(len(scene.objects)))
        planned = set_in_motion(rng, scene, actor, "free", speed=pace.speed, still=pace.still)
        if planned is not None:
            return planned[0]


def describe_motion(scene: Scene, rng: np.random.Generator, style: Style = "plain") -> str:
    """A caption of a clip's first frame and of the motion there, drawn at random.

    Half of them say nothing of motion, as of a still scene; a tenth of these is empty. The others name one or two
    objects, and of each that moves clearly in one direction, that direction.

    Args:
        scene: the first frame, with its velocities.
        rng: the only source of randomness.
        style: of the scene.

    >>> star = SceneObject("star", "red", "large", 0.2, 0.5, 0.16, velocity=(0.02, 0.0))
    >>> captions = {describe_motion(Scene((star,), "navy"), np.random.default_rng(i)) for i in range(9)}
    >>> any(caption.endswith("moving to the right") for caption in captions)
    True
    """
    if rng.random() < 0.5:
        return describe_rich(scene, rng) if style == "rich" else describe(scene, rng)
    order = rng.permutation(len(scene.objects))[: int(rng.integers(1, 3))]
    definite = rng.random() < 0.6
    return " and ".join(_moving_phrase(scene.objects[i], rng, definite=definite) for i in order)


def _moving_phrase(item: SceneObject, rng: np.random.Generator, *, definite: bool) -> str:
    choices = list(looks(item))
    words = choices[int(rng.integers(len(choices)))].words
    article = "the" if definite else "an" if words[0] in "aeiou" and not words.startswith("one") else "a"
    where = [place for place, holds in PLACES.items() if holds(item.x, item.y)]
    place = where[int(rng.integers(len(where)))] if where and rng.random() < 0.4 else ""
    moves = [phrase for phrase, pace in DIRECTIONS.items() if pace(*item.velocity) >= SLOWEST]
    return " ".join(part for part in (article, words, place, *moves) if part)


def clip_pixels(
    motions: Sequence[MovingScene], frames: int, size: int, *, device: str | torch.device = "cpu"
) -> Tensor:
    """The first frames of some moving scenes, float32 (clip, 3, frame, size, size) in [-1, 1]."""
    scenes = [motion.at(time) for motion in motions for time in range(frames)]
    drawn = render(scenes, size=size, device=device).images
    return drawn.unflatten(0, (len(motions), frames)).transpose(1, 2) * 2 - 1


class LatentClips:
    """Training clips with their latents, cached in a file of half-precision numbers.

    Args:
        folder: where the cache lies; it is made when it is not there.
        vae: the trained autoencoder, with the moments of its latents in its configuration.
        number: how many clips.
        frames: of each, one more than a multiple of 6.
        size: height and width in pixels, a multiple of 8.
        device: where to draw and encode.
        style: of the scenes, and so of their captions.

    Attributes:
        motions: what the clips show.
        latents: float16 (clip, channel, latent frame, size / 8, size / 8), each channel of zero mean and unit spread.
    """

    def __init__(
        self,
        folder: Path,
        vae: AutoencoderKLMochi,
        *,
        number: int,
        frames: int,
        size: int,
        device: torch.device,
        style: Style = "plain",
    ) -> None:
        self.style = style
        self.motions = [training_motion(i, style) for i in tqdm(range(number), desc="clips", leave=False)]
        path = folder / f"clips-{'rich-' if style == 'rich' else ''}{size}-{frames}-{number}.npy"
        if not path.is_file():
            self._encode(path, vae.to(device), frames, size, device)
        self.latents = np.load(path, mmap_mode="r")

    @torch.inference_mode()
    def _encode(self, path: Path, vae: AutoencoderKLMochi, frames: int, size: int, device: torch.device) -> None:
        mean, spread = (
            torch.tensor(values, device=device)[:, None, None, None]
            for values in (vae.config.latents_mean, vae.config.latents_std)
        )
        parts = []
        for start in tqdm(range(0, len(self.motions), _CHUNK), desc=f"latents of {frames} frames", unit="batch"):
            pixels = clip_pixels(self.motions[start : start + _CHUNK], frames, size, device=device)
            parts.append(((vae.encode(pixels).latent_dist.mode() - mean) / spread).half().cpu().numpy())
        with written_whole(path) as place, place.open("wb") as file:
            np.save(file, np.concatenate(parts))

    def __len__(self) -> int:
        return len(self.motions)

    def batch(self, number: int, rng: np.random.Generator) -> tuple[Tensor, list[str]]:
        """Latents float32 (number, channel, latent frame, h, w) and a caption for each, both drawn at random."""
        chosen = np.sort(rng.integers(len(self), size=number))
        latents = torch.from_numpy(self.latents[chosen].astype(np.float32))
        return latents, [describe_motion(self.motions[i].scene, rng, self.style) for i in chosen]
