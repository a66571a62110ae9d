"""The rows of a run: one an expression, whatever became of it.

A row of an expression that failed has its error, no mask, and scores as of an empty mask: so every mean over a table
counts it, and counts it as wrong. Times are those of this process; what is paid once an image is shared evenly among
its expressions, so that sums over rows are right.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

Row = dict[str, Any]

STAGES = ("load", "attention", "encode", "mask", "score")
"""What is timed: reading the picture; forward passes and heatmap; the segmenter's encoding of the picture, and its
answers; counting pixels."""

_STRINGS = pa.list_(pa.string())
_COMMON = [
    ("group", pa.int32()),
    ("number", pa.int32()),
    ("item", pa.string()),
    ("expression", pa.string()),
    ("text", pa.string()),
    ("kind", pa.string()),
    ("facts", pa.string()),
    ("seed", pa.int64()),
    ("height", pa.int32()),
    ("width", pa.int32()),
    ("x", pa.float64()),
    ("y", pa.float64()),
    ("peak", pa.float64()),
    ("score", pa.float64()),
    ("on_target", pa.float64()),
    ("intersection", pa.int64()),
    ("union", pa.int64()),
    ("true_area", pa.int64()),
    ("predicted_area", pa.int64()),
    ("iou", pa.float64()),
]
_LAST = [*((f"seconds_{stage}", pa.float64()) for stage in STAGES), ("error", pa.string())]

IMAGE_SCHEMA = pa.schema([*_COMMON, ("mask", pa.string()), *_LAST])
"""A row an expression about a still picture.

``group``: number of the image in the data set; ``number``: of the expression in the image; ``item`` and ``expression``:
their keys; ``facts``: JSON. ``x``, ``y``: the point in pixels; ``peak``: the heatmap's largest value; ``score``: the
segmenter's guess of the IoU; ``on_target``: 1 or 0, NaN where there is no target. ``intersection``, ``union``,
``true_area``, ``predicted_area``: in pixels. ``mask``: counts of COCO's run lengths. ``seconds_...``: see
:data:`STAGES`.
"""

CLIP_SCHEMA = pa.schema(
    [
        *_COMMON,
        ("j", pa.float64()),
        ("f", pa.float64()),
        ("frames", pa.list_(pa.int32())),
        ("frame_j", pa.list_(pa.float64())),
        ("frame_f", pa.list_(pa.float64())),
        ("masks", _STRINGS),
        *_LAST,
    ]
)
"""A row an expression about a clip: what an image's row has, over all scored frames together, and ``j`` and ``f``,
means over the frames that count; ``frames``: their numbers, ``frame_j`` and ``frame_f``: J and F in each; ``masks``: of
every frame of the clip. The point, the peak and the score are of the first frame."""


def failed_row(true_area: int, error: BaseException) -> Row:
    """The scores of an expression that got no mask.

    Args:
        true_area: pixels of the target.
        error: why.

    >>> row = failed_row(5, ValueError("no words"))
    >>> row["iou"], row["union"], row["error"]
    (0.0, 5, 'ValueError: no words')
    """
    return {
        "x": None, "y": None, "peak": None, "score": None, "on_target": 0.0 if true_area else None,
        "intersection": 0, "union": true_area, "true_area": true_area, "predicted_area": 0,
        "iou": 0.0, "mask": None, "error": f"{type(error).__name__}: {error}",
    }  # fmt: skip


def plain_facts(facts: Mapping[str, Any]) -> str:
    """Facts as JSON, keys in order."""
    return json.dumps(dict(facts), sort_keys=True, ensure_ascii=False)


def as_table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    """Rows as a table of these columns; what a row lacks is null."""
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
