"""The package attention-map-diffusers beside this library's recorder, on SD3, where it works with today's diffusers.

Both record text to image and image to text in every head of every block, of the same transformer and inputs. The
package has two ways: ``exact`` computes its maps during the attention call, ``fast`` keeps queries and keys there and
computes the maps afterwards, which is counted too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from attention_map_diffusers import AttentionCapture
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

from benchmarks.variants import MAPS, Geometry
from refam_analysis.models import TokenLayout
from refam_analysis.recording import Recorder

HEAD_WIDTH, CHANNELS, PATCH = 128, 16, 2
TEXT_WIDTH, POOLED_WIDTH = 512, 128


@dataclass(frozen=True)
class JointSubject:
    """An SD3 transformer, whose blocks put the image first, with the arguments of one forward pass."""

    transformer: SD3Transformer2DModel
    arguments: Mapping[str, torch.Tensor]
    geometry: Geometry

    @property
    def layout(self) -> TokenLayout:
        """Image, then text."""
        image = self.geometry.side**2
        return TokenLayout(
            text=slice(image, self.geometry.tokens), image=slice(0, image), grid=(self.geometry.side,) * 2
        )

    def run(self) -> torch.Tensor:
        """The plain forward pass."""
        with torch.inference_mode():
            return self.transformer(**self.arguments).sample


def make_joint_subject(geometry: Geometry, *, device: str, dtype: torch.dtype, seed: int = 0) -> JointSubject:
    """Random weights and inputs; ``double`` and ``single`` blocks of the geometry are all joint blocks here."""
    torch.manual_seed(seed)
    side = geometry.side * PATCH
    with torch.device(device):
        transformer = SD3Transformer2DModel(
            sample_size=side, patch_size=PATCH, in_channels=CHANNELS, out_channels=CHANNELS,
            num_layers=geometry.double + geometry.single, attention_head_dim=HEAD_WIDTH,
            num_attention_heads=geometry.heads, joint_attention_dim=TEXT_WIDTH,
            caption_projection_dim=HEAD_WIDTH * geometry.heads, pooled_projection_dim=POOLED_WIDTH,
            pos_embed_max_size=geometry.side,
        ).to(dtype).eval()  # fmt: skip
        arguments = {
            "hidden_states": torch.randn(1, CHANNELS, side, side, dtype=dtype),
            "encoder_hidden_states": torch.randn(1, geometry.text, TEXT_WIDTH, dtype=dtype),
            "pooled_projections": torch.randn(1, POOLED_WIDTH, dtype=dtype),
            "timestep": torch.tensor([600.0], dtype=dtype),
        }
    return JointSubject(transformer, arguments, geometry)


def ours(subject: JointSubject) -> Recorder:
    """This library's recorder."""
    with Recorder(subject.transformer, subject.layout, keep=MAPS) as recorder:
        subject.run()
    return recorder


def theirs(subject: JointSubject, mode: Literal["exact", "fast"]) -> list[torch.Tensor]:
    """The package: its maps (batch, head, query, key), for each block text to image, then image to text."""
    empty = dict.fromkeys(
        ["scheduler", "vae", "text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2",
         "tokenizer_3"]
    )  # fmt: skip
    capture = AttentionCapture(
        StableDiffusion3Pipeline(transformer=subject.transformer, **empty),
        relations=["text->image", "image->text"], heads="all", mode=mode, timesteps="all", allow_large_maps=True,
    )  # fmt: skip
    with capture:
        subject.run()
    return [record.data for record in capture.compute().records]


PACKAGE_VARIANTS: Mapping[str, Callable[[JointSubject], object]] = {
    "plain": JointSubject.run,
    "maps": ours,
    "maps, attention-map-diffusers exact": partial(theirs, mode="exact"),
    "maps, attention-map-diffusers fast": partial(theirs, mode="fast"),
}
"""By name, as in :data:`benchmarks.variants.VARIANTS`."""
