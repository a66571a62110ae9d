"""Recordings of a pass, alone or compared with the operands that a witness saw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from refam_analysis.models.layout import TokenLayout
from refam_analysis.recording import Recorder
from references.watch import Watch

Plain = Callable[..., torch.Tensor]


def check_recording(
    call: nn.Module | Callable[..., Any],
    transformer: nn.Module,
    layout: TokenLayout,
    arguments: dict[str, Any],
    plain_attention: Plain,
    *,
    passes: int = 1,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Record some passes and compare every block with the softmax of its operands, read in ``dtype`` if given.

    Returns:
        The output of the last pass, the same as without a recorder.
    """
    expected = call(**arguments)[0]
    with Recorder(transformer, layout, keep=["full"]) as recorder, Watch() as watch:
        for _ in range(passes):
            output = call(**arguments)[0]
    assert torch.equal(output, expected)
    recordings = [recording["full"].values for recording in recorder.recordings()]
    steps, _, blocks = recordings[0].shape[:3]
    assert steps == passes and len(watch.calls) == steps * blocks
    for number, (operands, _) in enumerate(watch.calls):
        query, key = (operands[name].to(dtype or operands[name].dtype) for name in ("query", "key"))
        attention = plain_attention(query.detach(), key.detach())
        for item, values in enumerate(recordings):
            np.testing.assert_allclose(values[number // blocks, 0, number % blocks], attention[item], atol=1e-5)
    return output


def recorded(model: nn.Module, layout: TokenLayout, arguments: dict[str, Any], **options: Any) -> np.ndarray:
    """The full attention (step, branch, block, head, query, key) of one pass, where nothing else is going on."""
    with torch.no_grad(), Recorder(model, layout, keep=["full"], **options) as recorder:
        model(**arguments)
    return recorder.recording()["full"].values
