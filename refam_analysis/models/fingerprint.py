"""A digest by which other weights under the same name are told apart, in milliseconds and not by reading them all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

if TYPE_CHECKING:
    from refam_analysis.models.base import DiffusionModel

SAMPLES = 16
"""At least so many values of each tensor are read, at even distances; training moves every one of them."""


def weights_fingerprint(*modules: nn.Module) -> str | None:
    """The sha256 over name, shape, type and some values of every weight and buffer.

    Two sets of weights that agree in all those values have the same one. Quantised weights are read as they are stored,
    weights that accelerate keeps aside where it keeps them.

    Args:
        modules: one after the other.

    Returns:
        64 hexadecimal digits; None where the values of some weights cannot be read: on the meta device, or put on the
        disk by diffusers' group offloading.

    >>> layer = nn.Linear(2, 3)
    >>> weights_fingerprint(layer) == weights_fingerprint(layer), len(weights_fingerprint(layer))
    (True, 64)
    """
    digest = hashlib.sha256()
    for module in modules:
        if _is_on_disk(module):
            return None
        for name, given in module.state_dict().items():
            tensor = _put_aside(module, name) if isinstance(given, torch.Tensor) and given.is_meta else given
            if tensor is None:
                return None
            if isinstance(tensor, torch.Tensor):  # what a quantised module says of itself beside may be none
                digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
                digest.update(_sample(tensor))
    return digest.hexdigest()


def transformers_fingerprint(model: DiffusionModel, noise_levels: Iterable[float]) -> str | None:
    """:func:`weights_fingerprint` of the transformers that a model runs at some noise levels.

    Args:
        model: from ``load_model``.
        noise_levels: each in [0, 1]; Wan 2.2 A14B has one transformer for high ones and another for low ones.
    """
    return weights_fingerprint(*dict.fromkeys(model.transformer_at(level) for level in noise_levels))


def networks_of(holder: object) -> list[nn.Module]:
    """The networks that an object holds (a segmenter, a propagator), or that what it holds does.

    >>> class Segmenter:
    ...     def __init__(self) -> None:
    ...         self.model = nn.Linear(2, 3)
    >>> networks_of(Segmenter())
    [Linear(in_features=2, out_features=3, bias=True)]
    """
    held = [holder, *getattr(holder, "__dict__", {}).values()]
    found = [one for part in held for one in (part, getattr(part, "model", None)) if isinstance(one, nn.Module)]
    return list(dict.fromkeys(found))


def _sample(tensor: torch.Tensor) -> bytes:
    """Some values as bytes; of a tensor that is made of others (quantised ones), theirs."""
    if is_traceable_wrapper_subclass(tensor):
        parts, _ = tensor.__tensor_flatten__()
        return b"".join(_sample(getattr(tensor, part)) for part in parts)
    plain = tensor.detach().as_subclass(torch.Tensor).flatten()
    chosen = plain[:: max(1, plain.numel() // SAMPLES)].contiguous()
    return bytes(chosen.view(torch.uint8).cpu().numpy())


def _put_aside(module: nn.Module, name: str) -> torch.Tensor | None:
    """What accelerate has put aside for a weight, from the hook of the module that has it or of one around it."""
    path = name.split(".")
    for depth in reversed(range(len(path))):
        for kept in _kept_by(module.get_submodule(".".join(path[:depth]))):
            if (found := kept.get(".".join(path[depth:]))) is not None:
                return found
    return None


def _kept_by(module: nn.Module) -> Iterator[Mapping[str, torch.Tensor]]:
    hook = getattr(module, "_hf_hook", None)
    for one in getattr(hook, "hooks", (hook,)):
        if (kept := getattr(one, "weights_map", None)) is not None:
            yield kept


def _is_on_disk(module: nn.Module) -> bool:
    """Whether diffusers' group offloading keeps some weights on the disk: between passes their places hold nothing."""
    for part in module.modules():
        for hook in getattr(getattr(part, "_diffusers_hook", None), "hooks", {}).values():
            if getattr(getattr(hook, "group", None), "offload_to_disk_path", None) is not None:
                return True
    return False
