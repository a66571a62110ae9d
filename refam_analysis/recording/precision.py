"""Products of float32 matrices that are float32, whatever the program around has chosen for its own.

``torch.set_float32_matmul_precision("high")``, which many programs call, lets a GPU round float32 operands to ten bits
(TF32), and "medium" some CPUs to seven. That is the model's business; a recording's scores would be off in the third
decimal. The setting belongs to the whole process, so it is changed only while a reduction computes, and only where it
is in the way.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

_LOCK = threading.Lock()
_restore: Callable[[], None] | None = None
_inside = 0


@contextmanager
def exact_products() -> Iterator[None]:
    """While entered, float32 matrix products are computed in float32.

    Several threads may be inside at once: the first changes the setting, the last puts it back.
    """
    global _inside, _restore
    with _LOCK:
        if _inside == 0:
            _restore = _set_exact()
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if _inside == 0 and _restore is not None:
                _restore()
                _restore = None


def _set_exact() -> Callable[[], None] | None:
    """Set it, and return what puts it back; None where nothing was in the way."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    general = torch.backends.fp32_precision  # type: ignore[attr-defined]
    if all((chosen if chosen != "none" else general) in ("ieee", "none") for chosen in before):
        return None
    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:  # PyTorch refuses where its newer setting, one for each backend, was used
        precision = None
    if precision is None:
        for backend in backends:
            backend.fp32_precision = "ieee"
    else:
        torch.set_float32_matmul_precision("highest")

    def restore() -> None:
        if precision is not None:
            torch.set_float32_matmul_precision(precision)
        for backend, chosen in zip(backends, before, strict=True):
            backend.fp32_precision = chosen

    return restore
