"""The parts of a model as networks whose inputs and outputs are plain tensors, ready to be written as ONNX graphs.

A sentence, a picture and noise go in; maps, received mass and masks come out. Each part does what the package does,
with the package's own functions; only what a page never changes is fixed: the settings that heatmaps are read with, the
positions, and the size of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from segment_anything.modeling import Sam
from segment_anything.utils.onnx import SamOnnxModel
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from refam_analysis.errors import RefamError
from refam_analysis.models.base import DiffusionModel
from refam_analysis.models.layout import TokenLayout
from refam_analysis.segmentation import reading
from refam_analysis.segmentation.settings import HeatmapSettings


class BrowserModelError(RefamError, ValueError):
    """A model, or a way to read it, that a page cannot run."""


class ExplicitAttention(TorchFunctionMode):
    """Computes fused attention by its definition, so that the probabilities are there to be kept.

    Attributes:
        seen: the probabilities of every call, (batch, head, query, key), in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Take the place of fused attention, and leave everything else alone."""
        if func is functional.scaled_dot_product_attention:
            return self._attend(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if enable_gqa:
            raise BrowserModelError("A page cannot run grouped queries. Export a model without them.")
        scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(later, float("-inf"))
        if attn_mask is not None:
            is_open = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, float("-inf")) if is_open else scores + attn_mask
        self.seen.append(scores.softmax(-1))
        return self.seen[-1] @ value


class SentencePart(nn.Module):
    """Both text encoders, from the tokens' numbers to what the transformer is given.

    Args:
        model: a FLUX; its tokenizers are the page's business.
    """

    def __init__(self, model: DiffusionModel) -> None:
        super().__init__()
        self.clip, self.t5 = model.pipeline.text_encoder, model.pipeline.text_encoder_2

    def forward(self, clip_ids: Tensor, t5_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(1, token) int64 each, to the states (1, token, width) and the pooled vector (1, width)."""
        with ExplicitAttention():
            return self.t5(t5_ids)[0], self.clip(clip_ids).pooler_output


class PicturePart(nn.Module):
    """The autoencoder's encoder: pixels of the model's own size to clean latents.

    Args:
        model: any whose pictures are no clips.
    """

    def __init__(self, model: DiffusionModel) -> None:
        super().__init__()
        self.vae, self.encode = model.pipeline.vae, model.encode_pixels

    def forward(self, pixels: Tensor) -> Tensor:
        """(1, 3, height, width) from 0 to 255, to (1, channel, y, x)."""
        with ExplicitAttention():
            return self.encode(pixels / 127.5 - 1)


class AttentionPart(nn.Module):
    """The transformer, from latents, noise and an encoded sentence to maps and received mass.

    Args:
        model: any with joint attention, one call a block, and tensors for its text.
        settings: how heatmaps are read, blocks as numbers.
        sites: (block, head), the weights of the average, which sum to 1; see
            :func:`~refam_analysis.segmentation.heatmap.site_weights`.
        layout: where text and image stand.
        text: names of the transformer's text inputs, in the order in which ``forward`` is given them.
    """

    sites: Tensor

    def __init__(
        self,
        model: DiffusionModel,
        settings: HeatmapSettings,
        sites: Tensor,
        layout: TokenLayout,
        text: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.model, self.transformer = model, model.transformer
        self.settings, self.layout, self.text = settings, layout, text
        self.register_buffer("sites", sites)

    def forward(self, latents: Tensor, noise: Tensor, *text: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """From (1, channel, y, x), (draw, channel, y, x) and the text's inputs, one item each.

        Returns:
            The token maps (token, patch) of
            :func:`~refam_analysis.segmentation.heatmap.token_maps`; the direction's attention in every block
            (block, token, patch), mean over heads, draws and noise levels; and the received mass (block, key) from text
            and from image queries, likewise.
        """
        passes = [self._attention(latents, noise, text, level) for level in self.settings.noise_levels]
        by_block = [torch.cat([one[block] for one in passes]) for block in range(len(passes[0]))]
        directed = [self._directed(attention) for attention in by_block]
        normalised = [reading.normalise(maps, self.settings.normalisation).mean(0) for maps in directed]
        token_maps = reading.average_sites(torch.stack(normalised)[None], self.sites[None])[0, 0]
        means = torch.stack([attention.mean((0, 1)) for attention in by_block])
        block_maps = torch.stack([maps.mean((0, 1)) for maps in directed])
        from_text, from_image = (
            means[:, side].mean(1) * means.shape[-1] for side in (self.layout.text, self.layout.image)
        )
        return token_maps, block_maps, from_text, from_image

    def _attention(self, latents: Tensor, noise: Tensor, text: tuple[Tensor, ...], level: float) -> list[Tensor]:
        """Of one noise level, the probabilities of every block: (draw, head, query, key)."""
        image_scale, noise_scale = self.model.schedule.scales(level)
        draws = noise.shape[0]
        named = zip(self.text, text, strict=True)
        given = {name: value.expand(draws, *value.shape[1:]) for name, value in named}
        arguments = self.model.arguments(image_scale * latents + noise_scale * noise, given, level)
        with ExplicitAttention() as attention:
            self.transformer(**arguments)
        blocks = len(self.sites)
        if len(attention.seen) != blocks:
            raise BrowserModelError(
                f"The transformer has {blocks} blocks and attends {len(attention.seen)} times. A page runs models that "
                "attend once a block, such as FLUX."
            )
        return attention.seen

    def _directed(self, attention: Tensor) -> Tensor:
        """The direction that is read, (draw, head, token, patch)."""
        text, image = self.layout.text, self.layout.image
        if self.settings.direction == "text_to_image":
            return attention[:, :, text, image]
        return attention[:, :, image, text].transpose(-1, -2)


class SegmenterPicturePart(nn.Module):
    """A small ``Sam``'s image encoder.

    Args:
        sam: the model.
        inside: (height, width) that a picture is resized to first, the longer side that of the model.
    """

    def __init__(self, sam: Sam, inside: tuple[int, int]) -> None:
        super().__init__()
        self.sam, self.inside = sam, inside

    def forward(self, pixels: Tensor) -> Tensor:
        """(1, 3, height, width) from 0 to 255, to (1, channel, y, x)."""
        if pixels.shape[-2:] != self.inside:
            # What Pillow does for SamPredictor, but for the rounding between its two steps.
            resized = functional.interpolate(pixels, self.inside, mode="bilinear", antialias=True, align_corners=False)
            pixels = resized.round().clamp(0, 255)
        with ExplicitAttention():
            return self.sam.image_encoder(self.sam.preprocess(pixels))


class SegmenterMaskPart(nn.Module):
    """A small ``Sam``'s answer to one point, as its ``SamPredictor`` gives it.

    Args:
        sam: the model.
        inside: (height, width) of the picture as the encoder saw it.
        size: (height, width) of the picture itself.
    """

    scale: Tensor
    positions: Tensor

    def __init__(self, sam: Sam, inside: tuple[int, int], size: tuple[int, int]) -> None:
        super().__init__()
        self.sam, self.inside, self.size = sam, inside, size
        self.prompts = SamOnnxModel(sam, return_single_mask=False)
        self.register_buffer("scale", torch.tensor([inside[1] / size[1], inside[0] / size[0]]))
        self.register_buffer("positions", sam.prompt_encoder.get_dense_pe())

    def forward(self, embedding: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
        """From (1, channel, y, x) and x and y in pixels (2,), to logits (candidate, height, width) and their scores."""
        # The second point is the padding that segment-anything gives a prompt without a box.
        coordinates = torch.stack((point * self.scale, torch.zeros_like(point)))[None]
        sparse = self.prompts._embed_points(coordinates, torch.tensor([[1.0, -1.0]]))
        dense = self.sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(embedding)
        logits, scores = self.sam.mask_decoder.predict_masks(
            image_embeddings=embedding,
            image_pe=self.positions,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
        )
        return self.sam.postprocess_masks(logits[:, 1:], self.inside, self.size)[0], scores[0, 1:]


@contextmanager
def positions_as_constants(model: DiffusionModel, arguments: dict[str, Any]) -> Iterator[None]:
    """Within the block, a FLUX's rotary embedding is two tensors, computed once and not by the graph.

    Args:
        model: a FLUX.
        arguments: of one transformer call, see ``DiffusionModel.arguments``.
    """
    transformer: Any = model.transformer
    embed = transformer.pos_embed
    cosine, sine = embed(torch.cat((arguments["txt_ids"], arguments["img_ids"])))
    transformer.pos_embed = _Constants(cosine, sine)
    try:
        yield
    finally:
        transformer.pos_embed = embed


class _Constants(nn.Module):
    cosine: Tensor
    sine: Tensor

    def __init__(self, cosine: Tensor, sine: Tensor) -> None:
        super().__init__()
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        return self.cosine, self.sine
