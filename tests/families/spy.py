"""A spy of the tests' own: the operands of every attention call inside blocks that are named by their paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from refam_analysis.models import DiffusionModel

Call = tuple[int, dict[str, Any]]
"""Number of the block, and the operands by name: query, key, value, attn_mask ..."""


class _Spy(TorchFunctionMode):
    def __init__(self, model: DiffusionModel, paths: Sequence[str]) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._running: int | None = None
        self._handles = []
        for number, path in enumerate(paths):
            block = model.transformer.get_submodule(path)
            self._handles.append(block.register_forward_pre_hook(lambda *_, n=number: self._set(n)))
            self._handles.append(block.register_forward_hook(lambda *_: self._set(None)))

    def _set(self, number: int | None) -> None:
        self._running = number

    def __exit__(self, *error: Any) -> None:
        for handle in self._handles:
            handle.remove()
        super().__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if getattr(func, "__name__", "") == "scaled_dot_product_attention" and self._running is not None:
            names = ("query", "key", "value", "attn_mask")
            given = {**dict(zip(names, args, strict=False)), **kwargs}
            self.calls.append((self._running, {n: v.clone() if torch.is_tensor(v) else v for n, v in given.items()}))
        return func(*args, **kwargs)


@torch.no_grad()
def spied(model: DiffusionModel, paths: Sequence[str], kwargs: Mapping[str, Any]) -> list[Call]:
    """Run the transformer, and give every call in order."""
    spy = _Spy(model, paths)
    with spy:
        model.transformer(**kwargs)
    return spy.calls
