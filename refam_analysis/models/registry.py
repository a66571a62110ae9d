"""Which file knows which model: by the class of a diffusers pipeline, and by the class of its transformer.

A new family is one row in each table.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from torch import nn

from refam_analysis.errors import RefamError
from refam_analysis.models.base import DiffusionModel
from refam_analysis.models.family import Family

_ROOM = "refam_analysis.models"

PIPELINES: Mapping[str, str] = MappingProxyType(
    {
        "FluxPipeline": "flux:FluxModel",
        "Flux2Pipeline": "flux2:Flux2Model",
        "Flux2KleinPipeline": "flux2:Flux2Model",
        "QwenImagePipeline": "qwen_image:QwenImageModel",
        "ZImagePipeline": "z_image:ZImageModel",
        "Lumina2Pipeline": "lumina2:Lumina2Model",
        "StableDiffusion3Pipeline": "stable_diffusion_3:StableDiffusion3Model",
        "PixArtAlphaPipeline": "pixart:PixArtModel",
        "PixArtSigmaPipeline": "pixart:PixArtModel",
        "SanaPipeline": "sana:SanaModel",
        "SanaSprintPipeline": "sana:SanaSprintModel",
        "HunyuanVideoPipeline": "hunyuan_video:HunyuanVideoModel",
        "LTXPipeline": "ltx_video:LtxVideoModel",
        "LTXConditionPipeline": "ltx_video:LtxConditionModel",
        "MochiPipeline": "mochi:MochiModel",
        "CogVideoXPipeline": "cogvideox:CogVideoXModel",
        "WanPipeline": "wan:WanModel",
    }
)
"""Class of the diffusers pipeline, and the module and class of its family."""

TRANSFORMERS: Mapping[str, str] = MappingProxyType(
    {
        "FluxTransformer2DModel": "flux:FluxModel",
        "Flux2Transformer2DModel": "flux2:Flux2Model",
        "QwenImageTransformer2DModel": "qwen_image:QwenImageModel",
        "ZImageTransformer2DModel": "z_image:ZImageModel",
        "Lumina2Transformer2DModel": "lumina2:Lumina2Model",
        "SD3Transformer2DModel": "stable_diffusion_3:StableDiffusion3Model",
        "PixArtTransformer2DModel": "pixart:PixArtModel",
        "SanaTransformer2DModel": "sana:SanaModel",
        "HunyuanVideoTransformer3DModel": "hunyuan_video:HunyuanVideoModel",
        "LTXVideoTransformer3DModel": "ltx_video:LtxVideoModel",
        "MochiTransformer3DModel": "mochi:MochiModel",
        "CogVideoXTransformer3DModel": "cogvideox:CogVideoXModel",
        "WanTransformer3DModel": "wan:WanModel",
    }
)
"""Class of the diffusers transformer, and the same."""


class UnsupportedModelError(RefamError, TypeError):
    """The pipeline is of a family that is not known here."""

    def __init__(self, pipeline_class: str) -> None:
        super().__init__(
            f"A {pipeline_class} is not supported. Give one of {', '.join(PIPELINES)}, or use Recorder on its "
            "transformer with a TokenLayout."
        )


def family_class(pipeline_class: str) -> type[DiffusionModel]:
    """The family of a pipeline.

    Args:
        pipeline_class: name of the diffusers class.

    Raises:
        UnsupportedModelError: none is known.
    """
    if pipeline_class not in PIPELINES:
        raise UnsupportedModelError(pipeline_class)
    return _load(PIPELINES[pipeline_class])


def family_of(transformer: nn.Module) -> Family | None:
    """What is known of a transformer's class, or of one that it inherits from; None for nothing."""
    for kind in type(transformer).__mro__:
        if kind.__name__ in TRANSFORMERS:
            return _load(TRANSFORMERS[kind.__name__]).family
    return None


def _load(place: str) -> type[DiffusionModel]:
    module, _, name = place.partition(":")
    found: type[DiffusionModel] = getattr(importlib.import_module(f"{_ROOM}.{module}"), name)
    return found
