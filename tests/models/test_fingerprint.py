"""The digest of weights: the same for the same, another for others, wherever the weights are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from diffusers import FluxTransformer2DModel
from diffusers.hooks import apply_group_offloading
from torch import nn
from torch.utils._python_dispatch import return_and_correct_aliasing

from refam_analysis.models.fingerprint import transformers_fingerprint, weights_fingerprint


def make(seed: int = 0) -> FluxTransformer2DModel:
    torch.manual_seed(seed)
    return FluxTransformer2DModel(
        in_channels=8, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=12, pooled_projection_dim=6, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip


EXPECTED = weights_fingerprint(make())


def test_the_same_weights_have_the_same_and_others_another() -> None:
    assert EXPECTED is not None and len(EXPECTED) == 64
    assert weights_fingerprint(make()) == EXPECTED
    assert weights_fingerprint(make(1)) != EXPECTED


@pytest.mark.parametrize("name", [name for name, _ in make().named_parameters()][::7])
def test_a_small_step_of_any_weight_changes_it(name: str) -> None:
    model = make()
    with torch.no_grad():
        model.get_parameter(name).mul_(1.0001).add_(1e-6)
    assert weights_fingerprint(model) != EXPECTED


def test_names_shapes_and_types_count() -> None:
    class Named(nn.Module):
        def __init__(self, name: str, values: torch.Tensor) -> None:
            super().__init__()
            self.register_buffer(name, values)

    ones = torch.zeros(6)
    found = [
        weights_fingerprint(Named(name, values))
        for name, values in (("a", ones), ("b", ones), ("a", ones.view(2, 3)), ("a", ones.int()))
    ]
    assert len(set(found)) == 4


class TwoStages:
    """A model that runs one transformer at high noise levels and another at low ones, as Wan 2.2 A14B does."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        self.transformer, self.second = first, second

    def transformer_at(self, noise_level: float) -> nn.Module:
        return self.transformer if noise_level >= 0.9 else self.second


@pytest.mark.parametrize(
    ("levels", "changed"),
    [((0.6,), "second"), ((0.95,), "first"), ((0.95, 0.6), "both")],
    ids=["low", "high", "high-and-low"],
)
def test_the_transformers_that_run_count_and_no_other(levels: tuple[float, ...], changed: str) -> None:
    plain = TwoStages(make(0), make(1))
    found = {
        "first": transformers_fingerprint(TwoStages(make(2), make(1)), levels),  # type: ignore[arg-type]
        "second": transformers_fingerprint(TwoStages(make(0), make(2)), levels),  # type: ignore[arg-type]
    }
    expected = transformers_fingerprint(plain, levels)  # type: ignore[arg-type]
    assert {name for name, digest in found.items() if digest != expected} == (
        {"first", "second"} if changed == "both" else {changed}
    )


def test_the_order_of_two_modules_counts() -> None:
    one, other = make(0), make(1)
    assert weights_fingerprint(one, other) != weights_fingerprint(other, one)
    assert weights_fingerprint(one) != weights_fingerprint(one, other)


@pytest.mark.parametrize(
    "values",
    [torch.tensor(3.0), torch.zeros(0), torch.arange(5), torch.tensor([True, False]), torch.ones(7, 5).mT.bfloat16(),
     torch.ones(4, 4).to(torch.float8_e4m3fn)],
    ids=["scalar", "empty", "whole", "bool", "turned", "float8"],
)  # fmt: skip
def test_any_kind_of_tensor_is_read(values: torch.Tensor) -> None:
    class Holder(nn.Module):
        def __init__(self, held: torch.Tensor) -> None:
            super().__init__()
            self.register_buffer("held", held)

    found = weights_fingerprint(Holder(values))
    assert found == weights_fingerprint(Holder(values.clone()))
    if values.numel():
        changed = values.clone()
        first = (0,) * values.ndim
        changed[first] = 0 if values[first].item() else 1
        assert weights_fingerprint(Holder(changed)) != found


# --- weights that are kept elsewhere ---


def test_weights_that_accelerate_keeps_on_the_cpu_are_read() -> None:
    model = make()
    cpu_offload(model, execution_device=torch.device("cpu"), offload_buffers=True)
    assert next(model.parameters()).is_meta
    assert weights_fingerprint(model) == EXPECTED


def test_weights_that_accelerate_keeps_on_the_disk_are_read(tmp_path: Path) -> None:
    model = make()
    disk_offload(model, tmp_path, execution_device=torch.device("cpu"), offload_buffers=True)
    assert next(model.parameters()).is_meta
    assert weights_fingerprint(model) == EXPECTED


def test_weights_that_diffusers_keeps_in_memory_are_read() -> None:
    model = make()
    apply_group_offloading(model, torch.device("cpu"), torch.device("cpu"), offload_type="leaf_level")
    assert weights_fingerprint(model) == EXPECTED


def test_weights_that_diffusers_keeps_on_the_disk_have_none(tmp_path: Path) -> None:
    model = make()
    apply_group_offloading(
        model, torch.device("cpu"), torch.device("cpu"), offload_type="leaf_level", offload_to_disk_path=str(tmp_path)
    )
    assert weights_fingerprint(model) is None


def test_weights_that_are_nowhere_have_none() -> None:
    with torch.device("meta"):
        model = make()
    assert weights_fingerprint(model) is None


class Quantised(torch.Tensor):
    """A weight made of two others, as quantisation libraries make them."""

    @staticmethod
    def __new__(cls, whole: torch.Tensor, scale: torch.Tensor) -> Quantised:
        return torch.Tensor._make_wrapper_subclass(cls, whole.shape, dtype=scale.dtype)  # type: ignore[attr-defined]

    def __init__(self, whole: torch.Tensor, scale: torch.Tensor) -> None:
        self.whole, self.scale = whole, scale

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["whole", "scale"], None

    @staticmethod
    def __tensor_unflatten__(parts: dict[str, torch.Tensor], _: None, *size: Any) -> Quantised:
        return Quantised(parts["whole"], parts["scale"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        (first, *_) = args
        made = cls(func(first.whole), func(first.scale))
        return return_and_correct_aliasing(func, args, kwargs or {}, made)


def test_quantised_weights_are_read_as_they_are_stored() -> None:
    class Layer(nn.Module):
        def __init__(self, whole: int, scale: float) -> None:
            super().__init__()
            parts = torch.full((4, 4), whole, dtype=torch.int8), torch.full((4, 1), scale)
            self.weight = nn.Parameter(Quantised(*parts), requires_grad=False)

    found = {(whole, scale): weights_fingerprint(Layer(whole, scale)) for whole in (1, 2) for scale in (0.5, 0.25)}
    assert len(set(found.values())) == 4 and None not in found.values()
    assert weights_fingerprint(Layer(1, 0.5)) == found[1, 0.5]
