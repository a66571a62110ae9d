"""A mode of the tests' own that notes every attention call with what it returned, whoever answered it."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_NAMES = ("query", "key", "value", "attn_mask")


class Watch(TorchFunctionMode):
    """While entered, notes operands and output of the attention calls of this thread. The last mode that is entered
    sees a call first: entered inside a recorder, this one sees what the recorder returns.

    Attributes:
        calls: for each call the operands by name, and the output.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[dict[str, Any], torch.Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") == "scaled_dot_product_attention":
            self.calls.append(({**dict(zip(_NAMES, args, strict=False)), **(kwargs or {})}, output))
        return output
