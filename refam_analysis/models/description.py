"""What a loaded model is made of, counted on the model itself: its parts, and the blocks of its transformer."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from torch import nn

from refam_analysis.models.base import DiffusionModel
from refam_analysis.models.blocks import find_blocks, head_shape, stacks_of

if TYPE_CHECKING:
    import pandas as pd


def part_table(model: DiffusionModel) -> pd.DataFrame:
    """The parts with weights.

    Args:
        model: from :func:`refam_analysis.load_model`.

    Returns:
        A row a part, by the pipeline's name for it: ``class`` and ``parameters``, their number.
    """
    import pandas as pd

    parts = {name: part for name, part in model.pipeline.components.items() if isinstance(part, nn.Module)}
    columns = {
        "class": [type(part).__name__ for part in parts.values()],
        "parameters": [_parameters(part) for part in parts.values()],
    }
    return pd.DataFrame(columns, index=pd.Index(parts, name="part"))


def block_table(model: DiffusionModel) -> pd.DataFrame:
    """The blocks of the transformer, by type; those of refiners last.

    Args:
        model: from :func:`refam_analysis.load_model`.

    Returns:
        A row a type: ``blocks`` ("0 to 18"), ``number``, ``heads``, ``head_width``, ``width`` and
        ``parameters_each``, those of its first block.
    """
    import pandas as pd

    heads, head_width = head_shape(model.transformer)
    rows = {}
    found = [block for stack in stacks_of(model.transformer) for block in find_blocks(model.transformer, stack)]
    for kind, alike in groupby(found, key=lambda block: block.type):
        blocks = list(alike)
        rows[kind] = {
            "blocks": f"{blocks[0].index} to {blocks[-1].index}",
            "number": len(blocks),
            "heads": heads,
            "head_width": head_width,
            "width": heads * head_width,
            "parameters_each": _parameters(blocks[0].module),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("type")


def _parameters(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
