"""What a model in training is watched by: where its words point, on a few validation scenes, read in one fixed way.

The diffusion loss alone is trained; this only looks. The reading is never tuned, so its curve says how grounding grows,
not how well it could be read. The reported numbers come from :mod:`refam_analysis.experiments.grounding`.
"""

from __future__ import annotations

from functools import cache

from refam_analysis.evaluation.grounding import grounding_accuracy
from refam_analysis.evaluation.items import GroundingItem, hard_items
from refam_analysis.models.base import DiffusionModel
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.settings import HeatmapSettings

READING = HeatmapSettings(
    direction="image_to_text", normalisation="raw", aggregation="product", blocks=(0,), noise_levels=(0.4,)
)


def probe(model: DiffusionModel, *, items: int = 100, style: Style = "plain") -> dict[str, float]:
    """Point accuracy on hard validation scenes, always at the model's full size of pictures.

    Args:
        model: from :func:`refam_analysis.training.assembly.as_model`; left unchanged.
        items: scenes of three objects, attribute and location expressions in turn.
        style: of the scenes.

    Returns:
        ``probe_target`` and ``probe_distractor`` (the likelier one), shares of points; ``probe_attribute`` and
        ``probe_location``, the first by kind of expression.
    """
    report = grounding_accuracy(model, _items(items, model.default_size[0], style), READING, sources=["model"])
    (together,) = report.summary().to_dict("records")
    by_kind = {f"probe_{row['kind']}": row["target"] for row in report.summary(by_kind=True).to_dict("records")}
    shares = {"probe_target": together["target"], "probe_distractor": together["likelier_distractor"], **by_kind}
    return {name: round(float(share), 4) for name, share in shares.items()}


@cache
def _items(number: int, size: int, style: Style) -> list[GroundingItem]:
    return hard_items("validation", number, objects=3, size=size, style=style)
