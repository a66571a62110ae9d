"""The sinks of any model, by one call: the table of sinks and the key-importance ratio, from scenes of the data set.

This runs a model over scenes and keeps of each recording only what the tables need, so that large models fit. What the
tables say is the business of `analysis`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from refam_analysis.analysis.key_effects import Reference, key_effects
from refam_analysis.analysis.key_importance import importance_over_scenes, key_importance_of, peak_importance
from refam_analysis.analysis.sinks import call_sinks
from refam_analysis.evaluation.items import GroundingItem, hard_items
from refam_analysis.evaluation.recordings import record_items
from refam_analysis.files import told_when_refused, written_whole
from refam_analysis.models.base import DiffusionModel
from refam_analysis.recording import Recording
from refam_analysis.recording.quantities import absent_from

_KEEP = ("entropy", "received_from_text", "received_from_image", "uniformity_from_text", "uniformity_from_image")


@dataclass(frozen=True)
class SinkSurvey:
    """What a model's scenes say about its sinks.

    Attributes:
        model: its name.
        sinks: from :func:`~refam_analysis.analysis.sinks.detect_sinks`.
        importance: from :func:`~refam_analysis.analysis.key_importance.key_importance`.
    """

    model: str
    sinks: pd.DataFrame
    importance: pd.DataFrame

    def strongest(self, most: int = 20) -> pd.DataFrame:
        """The sinks with the largest effects; where none is called, the roles that come nearest.

        Args:
            most: rows.
        """
        called = self.sinks[self.sinks["is_sink"]]
        # A role that few scenes have says little; of those that are common, the largest effects.
        common = self.sinks[self.sinks["scenes"] >= self.sinks["scenes"].max() / 2]
        columns = ["block", "role", "kind", "scenes", "mass_from_text", "mass_from_image", "effect", "low", "high",
                   "uniformity_from_text", "uniformity_from_image", "row_evenness", "q", "is_sink"]  # fmt: skip
        chosen = called if len(called) else common
        return chosen.sort_values("effect", ascending=False)[columns].head(most).reset_index(drop=True)

    def save(self, folder: Path) -> None:
        """Write both tables as ``sinks.csv`` and ``key-importance.csv``.

        Args:
            folder: made where it is not there.
        """
        with told_when_refused(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for name, table in (("sinks", self.sinks), ("key-importance", self.importance)):
            with written_whole(folder / f"{name}.csv") as place:
                table.to_csv(place, index=False)

    def summary(self) -> str:
        """The peak sink-to-random key-importance ratio and what it is of, in one sentence."""
        peak = peak_importance(self.importance)
        interval = f" ({peak['low']:.2f} to {peak['high']:.2f})" if peak["scenes"] > 1 else ""
        return (
            f"{self.model}: peak sink-to-random key-importance ratio {peak['ratio']:.2f}x{interval} in block "
            f"{peak['block']}, against other keys of its kind; {peak['ratio_to_all']:.2f}x against all others. The key "
            f"is of kind {peak['kind']} in {peak['kind_share']:.0%} of {peak['scenes']} scenes, and in "
            f"{peak['role_share']:.0%} it is {peak['role']!r}. Called sinks: {int(self.sinks['is_sink'].sum())} of "
            f"{len(self.sinks)} pairs of a block and a role."
        )


def survey_sinks(
    model: DiffusionModel,
    *,
    scenes: int = 20,
    noise_level: float = 0.6,
    magnets: Sequence[str] = (),
    reference: Reference = "side",
    batch_size: int = 1,
    seed: int = 0,
    progress: bool = False,
) -> SinkSurvey:
    """Record scenes of the validation split with a model and look for its sinks.

    Args:
        model: from :func:`refam_analysis.load_model`.
        scenes: how many; with fewer than about 15 the table can call no sink that stands alone.
        noise_level: of the recordings.
        magnets: appended to every sentence.
        reference: what a key's peers are, see :func:`~refam_analysis.analysis.sinks.detect_sinks`; "all" where most
            text keys may be sinks themselves, as with FLUX's padding.
        batch_size: scenes a forward pass.
        seed: of the noise and of the statistics.
        progress: show a bar over scenes.

    Returns:
        Both tables, over all scenes, with intervals.
    """
    effects, importance = [], []
    items = hard_items("validation", scenes, style=model.scene_style)
    recordings = _recordings(model, items, noise_level=noise_level, magnets=magnets, batch_size=batch_size, seed=seed)
    for recording in tqdm(recordings, total=len(items), desc="scenes", disable=not progress):
        effects.append(key_effects(recording, reference=reference))
        importance.append(key_importance_of(recording))
    return SinkSurvey(model.name, call_sinks(effects, seed=seed), importance_over_scenes(importance, seed=seed))


def _recordings(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    *,
    noise_level: float,
    magnets: Sequence[str],
    batch_size: int,
    seed: int,
) -> Iterator[Recording]:
    """Batch by batch, with what the model has of the quantities that tell sinks."""
    absent = absent_from(model.family)
    keep = [name for name in _KEEP if name not in absent]
    for start in range(0, len(items), batch_size):
        part = items[start : start + batch_size]
        yield from record_items(
            model, part, magnets=magnets, noise_level=noise_level, keep=keep, batch_size=batch_size, seed=seed + start
        )
