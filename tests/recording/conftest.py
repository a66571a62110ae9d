"""The reference of this room: the whole softmax in float64, and every quantity from it by its definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch.overrides import TorchFunctionMode

from refam_analysis.models.layout import TokenLayout

TEXT, IMAGE, GRID = slice(0, 5), slice(5, 17), (3, 4)


@pytest.fixture
def layout() -> TokenLayout:
    """Five text tokens, then 3 x 4 image tokens."""
    return TokenLayout(text=TEXT, image=IMAGE, grid=GRID)


def _flux(double: int, single: int) -> FluxTransformer2DModel:
    torch.manual_seed(1)
    model = FluxTransformer2DModel(
        in_channels=8, num_layers=double, num_single_layers=single, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=12, pooled_projection_dim=6, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    for name, weights in model.named_parameters():
        torch.nn.init.normal_(weights, std=1.5 if "attn.norm" in name else 0.3)
    return model.eval()


@pytest.fixture
def transformer() -> FluxTransformer2DModel:
    """Two double-stream and three single-stream blocks, two heads of 16, random weights, none of them zero."""
    return _flux(2, 3)


@pytest.fixture
def small_transformer() -> FluxTransformer2DModel:
    """The same with one block of each kind, for what takes its time with every block."""
    return _flux(1, 1)


@pytest.fixture
def inputs() -> Callable[..., dict[str, torch.Tensor]]:
    """``inputs(batch=1, seed=0)``: arguments for either transformer that fit ``layout``."""

    def make(batch: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        places = torch.cartesian_prod(torch.zeros(1), torch.arange(3.0), torch.arange(4.0))
        return {
            "hidden_states": torch.randn(batch, 12, 8, generator=generator),
            "encoder_hidden_states": torch.randn(batch, 5, 12, generator=generator),
            "pooled_projections": torch.randn(batch, 6, generator=generator),
            "timestep": torch.full((batch,), 0.6),
            "img_ids": places,
            "txt_ids": torch.zeros(5, 3),
        }

    return make


class _Spy(TorchFunctionMode):
    """Notes query and key of every attention call."""

    def __init__(self, calls: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        super().__init__()
        self._calls = calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "scaled_dot_product_attention":
            self._calls.append((kwargs["query"].clone(), kwargs["key"].clone()))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def queries_and_keys() -> Callable[..., list[tuple[torch.Tensor, torch.Tensor]]]:
    """``queries_and_keys(model, **arguments)``: final query and key of every attention call, one a block in FLUX."""

    def run(model: torch.nn.Module, **arguments: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
        calls: list[tuple[torch.Tensor, torch.Tensor]] = []
        with torch.no_grad(), _Spy(calls):
            model(**arguments)
        return calls

    return run
