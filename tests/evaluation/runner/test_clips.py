"""One clip with its expressions: J and F of every annotated frame, and what happens where none is."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from refam_analysis.evaluation.datasets import ClipExpression, ReferringClip, decode_mask
from refam_analysis.evaluation.datasets.problems import DatasetItemError
from refam_analysis.evaluation.metrics import contour_accuracy, region_similarity
from refam_analysis.evaluation.runner import GroupError, LoadedModels, evaluate_group
from refam_analysis.evaluation.runner.rows import CLIP_SCHEMA, STAGES, as_table
from refam_analysis.segmentation import Segmenter
from refam_analysis.segmentation.video import segment_video

SIZE = (40, 50)


@dataclass(frozen=True)
class NoiseFrames:
    broken: int | None = None
    size: tuple[int, int] = SIZE

    def __len__(self) -> int:
        return 4

    def load(self, i: int) -> np.ndarray:
        if i == self.broken:
            raise DatasetItemError(f"{i:05d}.jpg", "frame", "it is cut")
        return np.random.default_rng(i // 2).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Boxes:
    annotated: tuple[int, ...]
    absent: tuple[int, ...] = ()

    def load(self, i: int) -> np.ndarray:
        mask = np.zeros(SIZE, bool)
        if i not in self.absent:
            mask[5:25, 10 + i : 30 + i] = True
        return mask


def clip(*truths: Boxes | None, broken: int | None = None) -> ReferringClip:
    texts = ("the red circle", "a ring")
    expressions = tuple(
        ClipExpression(f"clip/{i}", text, truth, "place", {"words": 3})
        for i, (text, truth) in enumerate(zip(texts, truths, strict=False))
    )
    return ReferringClip("clip", expressions, NoiseFrames(broken), ("00000", "00001", "00002", "00003"))


def test_rows_are_the_answers_of_segment_video_scored_frame_by_frame(task: Callable, loaded: LoadedModels) -> None:
    item = clip(Boxes((0, 1, 2, 3)), Boxes((1, 3), absent=(3,)))
    rows = evaluate_group(task(item), loaded)
    frames = [item.load_frame(i) for i in range(4)]
    for row, expression in zip(rows, item.expressions, strict=True):
        alone = segment_video(
            loaded.model, frames, expression.text, magnets=(".",), segmenter=loaded.segmenter,
            settings=loaded.settings, seed=row["seed"],
        )  # fmt: skip
        masks = np.stack([decode_mask({"size": list(SIZE), "counts": counts}) for counts in row["masks"]])
        np.testing.assert_array_equal(masks, np.asarray(alone.masks))
        numbers = list(expression.annotated)
        true = np.stack([expression.load_masks(i) for i in numbers])
        assert row["frames"] == numbers
        assert row["j"] == pytest.approx(region_similarity(masks[numbers], true), abs=1e-12)
        assert row["f"] == pytest.approx(contour_accuracy(masks[numbers], true), abs=1e-12)
        assert row["intersection"] == (masks[numbers] & true).sum() and row["true_area"] == true.sum()
        assert (row["x"], row["y"]) == alone.point


def test_the_point_counts_where_the_first_frame_shows_the_target(task: Callable, loaded: LoadedModels) -> None:
    rows = [evaluate_group(task(clip(truth)), loaded)[0] for truth in (Boxes((0,)), Boxes((1,)), Boxes((0,), (0,)))]
    assert rows[0]["on_target"] in (0.0, 1.0)
    assert rows[1]["on_target"] is rows[2]["on_target"] is None


def test_empty_frames_follow_the_rule_of_the_benchmark(task: Callable, loaded: LoadedModels) -> None:
    truth = Boxes((0, 1, 2, 3), absent=(0, 1, 2, 3))
    (row,) = evaluate_group(task(clip(truth), empty="skip"), loaded)
    masks = [decode_mask({"size": list(SIZE), "counts": counts}) for counts in row["masks"]]
    expected = [np.nan if not mask.any() else 0.0 for mask in masks]
    np.testing.assert_equal(row["frame_j"], expected)


def test_masks_are_made_where_no_truth_is_published(task: Callable, loaded: LoadedModels) -> None:
    (row,) = evaluate_group(task(clip(None)), loaded)
    assert len(row["masks"]) == 4 and row["frames"] == []
    assert row["j"] is row["f"] is row["on_target"] is row["iou"] is None


def test_a_frame_that_cannot_be_read_fails_the_expression(task: Callable, loaded: LoadedModels) -> None:
    item = clip(Boxes((0, 1)), None, broken=2)
    scored, unscored = evaluate_group(task(item, on_error="skip"), loaded)
    assert scored["error"].startswith("DatasetItemError") and (scored["j"], scored["f"]) == (0.0, 0.0)
    assert unscored["error"] and unscored["j"] is None
    with pytest.raises(GroupError, match="clip, expression 'the red circle'"):
        evaluate_group(task(item), loaded)


class SlowSegmenter:
    def __init__(self, segmenter: Segmenter) -> None:
        self.set, self.predict = segmenter.set_image, segmenter.predict

    def set_image(self, image: np.ndarray) -> None:
        time.sleep(0.2)
        self.set(image)


def test_seconds_of_a_clip_that_failed_are_counted_once(task: Callable, loaded: LoadedModels) -> None:
    slow, start = replace(loaded, segmenter=SlowSegmenter(loaded.segmenter)), time.perf_counter()
    (row,) = evaluate_group(task(clip(None, broken=2), on_error="skip"), slow)
    took = time.perf_counter() - start
    assert row["error"] and row["seconds_encode"] >= 0.2
    assert sum(row[f"seconds_{stage}"] for stage in STAGES) <= took


def test_rows_fit_their_schema_and_can_be_sent(task: Callable, loaded: LoadedModels) -> None:
    rows = evaluate_group(pickle.loads(pickle.dumps(task(clip(Boxes((0, 2)))))), loaded)
    assert set(rows[0]) <= {*CLIP_SCHEMA.names, "mask"}
    (back,) = as_table(rows, CLIP_SCHEMA).to_pylist()
    assert back["frames"] == [0, 2] and back["frame_f"] == rows[0]["frame_f"] and back["masks"] == rows[0]["masks"]
