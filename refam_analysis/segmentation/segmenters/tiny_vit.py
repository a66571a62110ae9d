"""MobileSAM's image encoder: TinyViT of timm, with the neck of segment-anything's own encoder.

The 5 M variant of TinyViT (dims 64, 128, 160, 320; depths 2, 2, 6, 2; heads 2, 4, 5, 10; windows 7, 7, 14, 7), whose
last stage keeps the resolution of the third, so that an image of 1024 pixels becomes 64 x 64 embeddings. Here are the
module, the names of its weights in MobileSAM's checkpoint, and what makes it faster without changing what it computes.

Source: Zhang et al., "Faster Segment Anything: Towards Lightweight SAM for Mobile Applications", 2023; Wu et al.,
"TinyViT: Fast Pretraining Distillation for Small Vision Transformers", 2022.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from segment_anything.modeling.common import LayerNorm2d
from timm.models.tiny_vit import Attention, ConvNorm, TinyVit, TinyVitStage
from torch import Tensor, nn

PATCH = 16
"""Pixels of the image a side of one embedding."""

_NAMES = (
    (r"^patch_embed\.seq\.0\.", "trunk.patch_embed.conv1."),
    (r"^patch_embed\.seq\.2\.", "trunk.patch_embed.conv2."),
    (r"^layers\.(\d)\.blocks\.", r"trunk.stages.\1.blocks."),
    # timm has the step between two stages at the beginning of the later one.
    (r"^layers\.0\.downsample\.", "trunk.stages.1.downsample."),
    (r"^layers\.1\.downsample\.", "trunk.stages.2.downsample."),
    (r"^layers\.2\.downsample\.", "trunk.stages.3.downsample."),
    (r"\.c\.weight$", ".conv.weight"),
)
"""How MobileSAM's names become ours, one after the other."""

_UNUSED = re.compile(r"^(norm_head|head)\.(weight|bias)$")
"""The classifier that TinyViT was first trained with. MobileSAM's checkpoint holds it, and nothing uses it."""


class TinyVitEncoder(nn.Module):
    """An image encoder for segment-anything's ``Sam``, with random weights at first.

    Args:
        image_size: pixels a side of what it is given; divisible by 32. 1024 is what MobileSAM was trained for.
        embedding: channels of the image embedding.

    >>> encoder = TinyVitEncoder(image_size=64).eval()
    >>> encoder(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 256, 4, 4])
    """

    def __init__(self, image_size: int = 1024, embedding: int = 256) -> None:
        super().__init__()
        self.img_size = image_size
        trunk: Any = TinyVit(
            num_classes=0,
            embed_dims=(64, 128, 160, 320),
            depths=(2, 2, 6, 2),
            num_heads=(2, 4, 5, 10),
            window_sizes=(7, 7, 14, 7),
            drop_path_rate=0.0,
        )
        trunk.head = nn.Identity()
        trunk.stages[3].downsample.conv2.conv.stride = (1, 1)
        for stage in trunk.stages:
            for block in stage.blocks if isinstance(stage, TinyVitStage) else ():
                block.attn = _WindowAttention.like(block.attn)
        self.trunk = trunk
        self.neck = nn.Sequential(
            nn.Conv2d(320, embedding, kernel_size=1, bias=False),
            LayerNorm2d(embedding),
            nn.Conv2d(embedding, embedding, kernel_size=3, padding=1, bias=False),
            LayerNorm2d(embedding),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(batch, 3, image_size, image_size) to (batch, embedding, image_size / 16, image_size / 16)."""
        return self.neck(self.trunk.forward_features(images))


class _WindowAttention(Attention):
    """timm's attention with its bias in four axes.

    PyTorch's fused attention on the CPU takes masks of two or four axes; with timm's three it falls back on a softmax
    that writes every score to memory. The result is the same up to rounding.
    """

    @classmethod
    def like(cls, other: Any) -> _WindowAttention:
        dim = other.qkv.in_features
        return cls(dim, other.key_dim, other.num_heads, attn_ratio=other.attn_ratio, resolution=other.resolution)

    def get_attention_biases(self, device: torch.device) -> Tensor:
        """(1, head, query, key): one bias for all windows."""
        return super().get_attention_biases(device)[None]


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of MobileSAM's image encoder under the names of :class:`TinyVitEncoder`, without the classifier.

    Args:
        weights: by their names in the checkpoint, from ``image_encoder.`` on.

    >>> list(renamed({"layers.0.downsample.conv1.c.weight": torch.zeros(1), "head.bias": torch.zeros(1)}))
    ['trunk.stages.1.downsample.conv1.conv.weight']
    """
    result = {}
    for name, tensor in weights.items():
        if _UNUSED.match(name):
            continue
        for pattern, ours in _NAMES:
            name = re.sub(pattern, ours, name)
        result[name] = tensor
    return result


def speed_up(encoder: TinyVitEncoder) -> TinyVitEncoder:
    """Make an encoder faster for inference: the same function, up to rounding.

    Every batch normalisation becomes part of the convolution before it, and the weights of convolutions are laid out
    with channels last, the order in which the blocks' attention reads its tokens anyway.

    Args:
        encoder: with its final weights, in evaluation mode; changed in place.
    """
    fold_norms(encoder)
    return encoder.to(memory_format=torch.channels_last)


def fold_norms(module: nn.Module) -> None:
    """Replace every convolution with batch normalisation below a module by one convolution that does both."""
    for name, child in module.named_children():
        if isinstance(child, ConvNorm):
            fused: Any = child.fuse()
            setattr(module, name, fused.eval().requires_grad_(False))
        else:
            fold_norms(child)
