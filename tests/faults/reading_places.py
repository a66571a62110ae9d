"""Jobs that read a model's attention: recordings, evaluations, tables of sentences, clips, the search for settings."""

from __future__ import annotations

import json
from pathlib import Path

from streaming.runs import SENTENCE, picture

from faults.places import Digests, Place, Tools, array_digest, digest, noise, pixels_digest, table_digest
from refam_analysis.evaluation.datasets import load_dataset
from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.evaluation.runner import (
    RunConfiguration,
    carry_out,
    describe_models,
    in_this_process,
    load_results,
    start_of,
)
from refam_analysis.evaluation.search import SearchSpace, choose_settings
from refam_analysis.recording import Recording, load_recording, record
from refam_analysis.scenes import SceneOptions, Scenes
from refam_analysis.segmentation import HeatmapSettings
from refam_analysis.segmentation.batch import RESULTS, BatchOptions, segment_rows
from refam_analysis.segmentation.batch_table import BatchRow
from refam_analysis.segmentation.result import SegmentationResult
from refam_analysis.segmentation.video import read_mask, segment_video
from refam_analysis.segmentation.video import store as video_store

# --- recordings ---


def _recorded(tools: Tools, store: Path | None = None) -> Recording:
    return record(
        tools.model, picture(), SENTENCE, noise_level=0.8, steps=2, guidance=None, keep=["full", "entropy"], store=store
    )


def _store(tools: Tools, folder: Path) -> None:
    _recorded(tools, folder / "run.zarr")


def _save(tools: Tools, folder: Path) -> None:
    if not (folder / "run.zarr").exists():
        _recorded(tools).save(folder / "run.zarr")
    load_recording(folder / "run.zarr")


def _recording(tools: Tools, folder: Path) -> Digests:
    found = load_recording(folder / "run.zarr")
    variables = {str(name): array_digest(array.values.astype(str) if array.dtype.kind == "O" else array.values)
                 for name, array in found.dataset.variables.items()}  # fmt: skip
    return {**variables, "attributes": digest(json.dumps(found.attrs, sort_keys=True)), "shown": digest(repr(found))}


# --- evaluation ---


def _evaluate(tools: Tools, folder: Path, dataset: str, limit: int) -> None:
    configuration = RunConfiguration(dataset, "test", limit=limit, magnets=(".",), batch_size=4)
    carry_out(
        configuration, load_dataset(dataset, "test", limit=limit), folder / "run", in_this_process(tools.loaded),
        models=describe_models(tools.loaded), start=start_of(configuration, tools.loaded),
    )  # fmt: skip


def _images(tools: Tools, folder: Path) -> None:
    _evaluate(tools, folder, "scenes", 3)


def _rows(tools: Tools, folder: Path) -> Digests:
    run = load_results(folder / "run")
    about = {name: entry for name, entry in run.about.items() if name not in ("starts", "finished")}
    table = run.table[[name for name in run.table if not name.startswith("seconds_")]]
    return {"table": table_digest(table), "about": digest(json.dumps(about, sort_keys=True)),
            "missing": str(run.missing), "finished": str(bool(run.about["finished"]))}  # fmt: skip


# --- the search for settings ---

_SPACE = SearchSpace(
    noise_levels=(0.3, 0.7), directions=("image_to_text",), normalisations=("raw",), aggregations=("mean",),
    longest_run=1, head_counts=(1,),
)  # fmt: skip


def _items() -> list[GroundingItem]:
    scenes = Scenes("validation", length=2, size=40, options=SceneOptions(objects=(2, 3)))
    samples = zip(scenes, ("the red circle", "a ring"), strict=True)
    return [GroundingItem(one.image, one.masks, text, "location", 0, tuple(range(1, len(one.masks))), number)
            for number, (one, text) in enumerate(samples)]  # fmt: skip


def _search(tools: Tools, folder: Path) -> None:
    choose_settings(tools.model, _items(), _SPACE, magnets=(".",), folder=folder / "search")


def _searched(tools: Tools, folder: Path) -> Digests:
    found = choose_settings(tools.model, _items(), _SPACE, magnets=(".",), folder=folder / "search")
    return {"table": table_digest(found.table), "settings": digest(json.dumps(found.settings.to_dict()))}


# --- many sentences ---


def _write(result: SegmentationResult, path: Path) -> None:
    path.write_text(json.dumps(result.to_dict(), allow_nan=False))


def _batch(tools: Tools, folder: Path) -> None:
    asked = [(path, text) for path in tools.pictures for text in ("the red circle", "a ring", "the small square")]
    rows = [BatchRow(number, path, text) for number, (path, text) in enumerate(asked, 1)]
    options = BatchOptions(HeatmapSettings(), (".",), str(tools.segmenter_folder))
    segment_rows(
        tools.model, rows, folder / "batch", options, batch_size=1, extras={"intermediates": (".json", _write)}
    )


def _answers(tools: Tools, folder: Path) -> Digests:
    place = folder / "batch"
    masks = {path.name: pixels_digest(path) for path in sorted((place / "masks").iterdir())}
    others = {path.name: digest(path.read_text()) for path in sorted((place / "intermediates").iterdir())}
    return {**masks, **others, RESULTS: (place / RESULTS).read_text().replace(str(tools.folder), "")}


# --- a clip ---


def _clip(tools: Tools, folder: Path) -> None:
    video_store.CHECKPOINT_EVERY = 3
    segment_video(
        tools.model, noise(5, 8, 40, 56, 3), "the red circle", segmenter=str(tools.segmenter_folder), magnets=(".",),
        settings=HeatmapSettings(), store=folder / "clip",
    )  # fmt: skip


def _masks(tools: Tools, folder: Path) -> Digests:
    place = folder / "clip"
    masks = {path.name: array_digest(read_mask(path)) for path in sorted((place / "masks").iterdir())}
    shown = segment_video(
        tools.model, noise(5, 8, 40, 56, 3), "the red circle", segmenter=str(tools.segmenter_folder), magnets=(".",),
        settings=HeatmapSettings(), store=place,
    )  # fmt: skip
    return {**masks, "frames": digest(shown.scores.tobytes(), shown.visible.tobytes(), shown.events.to_json()),
            "heatmap": array_digest(shown.frame_heatmaps.values), "point": str(shown.point),
            "left": str(sorted(path.name for path in place.iterdir()))}  # fmt: skip


PLACES: dict[str, Place] = {
    "recording-store": Place("a recording, block by block", _store, _recording),
    "recording-save": Place("a recording, at once", _save, _recording),
    "evaluation": Place("the rows of a benchmark", _images, _rows),
    "search": Place("the search for settings", _search, _searched),
    "batch": Place("masks of a table of sentences", _batch, _answers),
    "clip": Place("masks of a clip", _clip, _masks),
}
