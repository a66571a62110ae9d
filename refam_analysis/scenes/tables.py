"""The data set in numbers: a row an object, or a row a scene and kind of expression. Nothing is drawn here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from refam_analysis.scenes.dataset import Scenes, SceneSample
from refam_analysis.scenes.expressions import expressions
from refam_analysis.scenes.rendering import render
from refam_analysis.scenes.rich_vocabulary import RICH_HELD_OUT
from refam_analysis.scenes.scene import Scene

if TYPE_CHECKING:
    import pandas as pd


def object_table(samples: Iterable[SceneSample]) -> pd.DataFrame:
    """Every object of some scenes.

    Args:
        samples: such as ``Scenes("test", length=400)``.

    Returns:
        A row an object: ``scene`` and ``object``, counted from 0; ``colour``, ``shape`` and ``size``, as words;
        ``x`` and ``y`` of its centre in shares of the picture's side; ``area``, the part that is seen, as a share of
        the picture; ``visible``, that part as a share of the whole object; ``held_out``, whether only the test split
        shows this colour with this shape.

    >>> table = object_table(Scenes("test", length=3, size=48))
    >>> len(table), float(table["visible"].min())
    (9, 1.0)
    """
    import pandas as pd

    rows = []
    for number, sample in enumerate(samples):
        objects = sample.scene.objects
        size = sample.masks.shape[-1]
        alone = render([Scene((item,), sample.scene.background) for item in objects], size=size).masks[:, 0].numpy()
        for index, item in enumerate(objects):
            rows.append(
                {
                    "scene": number,
                    "object": index,
                    **{name: getattr(item, name) for name in ("colour", "shape", "size", "x", "y")},
                    "area": float(sample.masks[index].mean()),
                    "visible": float(sample.masks[index].sum() / alone[index].sum()),
                    "held_out": (item.colour, item.shape) in RICH_HELD_OUT,
                }
            )
    return pd.DataFrame(rows)


def expression_table(scenes: Scenes) -> pd.DataFrame:
    """How many unambiguous expressions of each kind the scenes of a split offer.

    Args:
        scenes: a split; its ``kinds`` are counted. No picture is drawn.

    Returns:
        A row a scene and kind: ``scene``, ``objects`` (their number), ``kind``, ``offers`` (expressions that refer to
        exactly one object) and ``targets`` (objects that some expression of this kind refers to).

    >>> expression_table(Scenes("test", length=1))["kind"].tolist()
    ['attribute', 'location', 'relation', 'superlative']
    """
    import pandas as pd

    rows = []
    for number in range(len(scenes)):
        scene, _ = scenes.draw(number)
        for kind in scenes.kinds:
            offers = expressions(scene, kind)
            targets = len({offer.target for offer in offers})
            counts = {"objects": len(scene.objects), "kind": kind, "offers": len(offers), "targets": targets}
            rows.append({"scene": number, **counts})
    return pd.DataFrame(rows)
