"""One image with its expressions: rows are the answers of ``segment``, scored by slow counting, and errors are kept."""

from __future__ import annotations

import dataclasses
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from refam_analysis.evaluation.datasets import ReferringImage, decode_mask
from refam_analysis.evaluation.runner import GroupError, GroupTask, LoadedModels, evaluate_group
from refam_analysis.evaluation.runner.rows import IMAGE_SCHEMA, STAGES, as_table
from refam_analysis.segmentation import segment

TEXTS = ("the red circle", "a ring on the left", "blue")


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if not name.startswith("seconds_")} for row in rows]


@pytest.fixture(scope="module")
def rows(task: Callable, image: Callable, loaded: LoadedModels) -> list[dict[str, Any]]:
    return evaluate_group(task(image(1, *TEXTS)), loaded)


def test_rows_are_the_answers_of_segment_with_the_rows_own_seed(
    rows: list[dict[str, Any]], image: Callable, loaded: LoadedModels
) -> None:
    item = image(1, *TEXTS)
    for row, expression in zip(rows, item.expressions, strict=True):
        alone = segment(
            loaded.model, item.load(), expression.text, magnets=(".",), segmenter=loaded.segmenter,
            settings=loaded.settings, seed=row["seed"],
        )  # fmt: skip
        assert (row["x"], row["y"]) == alone.point
        mask = decode_mask({"size": [row["height"], row["width"]], "counts": row["mask"]})
        np.testing.assert_array_equal(mask, alone.mask)
        assert row["score"] == pytest.approx(float(alone.stages["scores"].max()), rel=1e-4)
        assert row["peak"] == pytest.approx(float(alone.heatmap.max()), rel=1e-3)


def test_rows_are_scored_as_counting_says(rows: list[dict[str, Any]], image: Callable) -> None:
    for row, expression in zip(rows, image(1, *TEXTS).expressions, strict=True):
        mask = decode_mask({"size": [40, 50], "counts": row["mask"]})
        true = decode_mask(expression.mask)
        both, either = sum((mask & true).ravel().tolist()), sum((mask | true).ravel().tolist())
        assert (row["intersection"], row["union"], row["iou"]) == (both, either, pytest.approx(both / either))
        assert (row["true_area"], row["predicted_area"]) == (true.sum(), mask.sum())
        assert row["on_target"] == float(true[math.floor(row["y"] + 0.5), math.floor(row["x"] + 0.5)])


def test_rows_say_what_they_are_about(rows: list[dict[str, Any]]) -> None:
    first = rows[0]
    said = {name: first[name] for name in ("group", "number", "item", "expression", "text", "kind", "facts", "error")}
    assert said == {
        "group": 3, "number": 0, "item": "image-1", "expression": "image-1/0", "text": TEXTS[0], "kind": "place",
        "facts": '{"words": 2}', "error": None,
    }  # fmt: skip
    assert (first["height"], first["width"]) == (40, 50)


def test_rows_fit_their_schema_and_lose_nothing(rows: list[dict[str, Any]]) -> None:
    back = as_table(rows, IMAGE_SCHEMA).to_pylist()
    assert [set(row) for row in rows] == [set(IMAGE_SCHEMA.names)] * 3
    assert back == rows


def test_every_stage_is_timed(rows: list[dict[str, Any]]) -> None:
    assert all(row[f"seconds_{stage}"] > 0 for row in rows for stage in STAGES)


def test_the_task_and_its_rows_can_be_sent_to_another_process(
    rows: list[dict[str, Any]], task: Callable, image: Callable, loaded: LoadedModels
) -> None:
    sent: GroupTask = pickle.loads(pickle.dumps(task(image(1, *TEXTS))))
    assert without_times(pickle.loads(pickle.dumps(evaluate_group(sent, loaded)))) == without_times(rows)


def test_nothing_is_left_in_the_models(
    rows: list[dict[str, Any]], task: Callable, image: Callable, loaded: LoadedModels
) -> None:
    evaluate_group(task(image(2, "blue")), loaded)
    assert without_times(evaluate_group(task(image(1, *TEXTS)), loaded)) == without_times(rows)


def test_the_picture_is_encoded_once_whatever_the_batches(
    task: Callable, image: Callable, loaded: LoadedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    encode, set_image = loaded.model.encode_images, loaded.segmenter.set_image
    monkeypatch.setattr(
        loaded.model, "encode_images", lambda *a, **k: encoded.append("model") or encode(*a, **k), raising=False
    )
    monkeypatch.setattr(loaded.segmenter, "set_image", lambda pixels: encoded.append("segmenter") or set_image(pixels))
    evaluate_group(task(image(1, *TEXTS, "green", "left"), batch_size=2), loaded)
    assert sorted(encoded) == ["model", "segmenter"]


def test_an_expression_without_a_target_has_no_point_accuracy(
    task: Callable, image: Callable, loaded: LoadedModels
) -> None:
    (row,) = evaluate_group(task(image(1, "blue", none=("blue",))), loaded)
    assert row["on_target"] is None
    assert (row["true_area"], row["intersection"], row["union"], row["iou"]) == (0, 0, row["predicted_area"], 0.0)


# What cannot be answered


def test_an_expression_that_fails_stops_the_run_and_is_named(
    task: Callable, image: Callable, loaded: LoadedModels
) -> None:
    with pytest.raises(GroupError, match=r"image-1, expression 'the of': NoContentWordsError: .*--on-error skip"):
        evaluate_group(task(image(1, "blue", "the of")), loaded)


@pytest.mark.parametrize("text", ["", "the of", " ".join(["circle"] * 40)], ids=["empty", "no-words", "too-long"])
def test_an_expression_that_fails_is_listed_and_the_others_are_answered(
    task: Callable, image: Callable, loaded: LoadedModels, text: str
) -> None:
    good, failed, also_good = evaluate_group(task(image(1, "blue", text, "a ring"), on_error="skip"), loaded)
    assert "Error: " in failed["error"] and failed["mask"] is None and failed["x"] is None
    assert (failed["iou"], failed["intersection"], failed["on_target"]) == (0.0, 0, 0.0)
    assert failed["union"] == failed["true_area"] > 0
    (alone,) = evaluate_group(task(image(1, "blue")), loaded)
    assert without_times([good]) == without_times([alone])
    assert also_good["error"] is None and also_good["number"] == 2


def test_a_picture_that_cannot_be_read_fails_all_its_expressions(
    task: Callable, image: Callable, loaded: LoadedModels
) -> None:
    rows = evaluate_group(task(image(1, "blue", "a ring", broken=True), on_error="skip"), loaded)
    assert [row["error"].split(":")[0] for row in rows] == ["DatasetItemError"] * 2
    assert [row["number"] for row in rows] == [0, 1] and all(row["iou"] == 0.0 for row in rows)
    with pytest.raises(GroupError, match="it is cut"):
        evaluate_group(task(image(1, "blue", broken=True)), loaded)


def test_a_mask_of_another_size_than_the_picture_fails(task: Callable, image: Callable, loaded: LoadedModels) -> None:
    item: ReferringImage = image(1, "blue")
    other = dataclasses.replace(item, picture=dataclasses.replace(item.picture, size=(40, 52)))
    (row,) = evaluate_group(task(other, on_error="skip"), loaded)
    assert row["error"].startswith("MaskShapeError")


def test_a_batch_that_is_too_large_for_memory_is_asked_one_by_one(
    task: Callable, image: Callable, loaded: LoadedModels
) -> None:
    class Small:
        """Runs out of memory with more than one point."""

        def set_image(self, pixels: np.ndarray) -> None:
            loaded.segmenter.set_image(pixels)

        def predict(self, points: Any) -> Any:
            if len(points) > 1:
                raise MemoryError("out of memory")
            return loaded.segmenter.predict(points)

    whole = evaluate_group(task(image(1, *TEXTS)), loaded)
    parts = evaluate_group(task(image(1, *TEXTS)), dataclasses.replace(loaded, segmenter=Small()))
    assert [row["error"] for row in parts] == [None] * 3
    assert [(row["x"], row["mask"]) for row in parts] == [(row["x"], row["mask"]) for row in whole]


def test_an_interruption_is_no_failure(task: Callable, image: Callable, loaded: LoadedModels) -> None:
    class Interrupted:
        def set_image(self, pixels: np.ndarray) -> None:
            raise KeyboardInterrupt

        predict = loaded.segmenter.predict

    with pytest.raises(KeyboardInterrupt):
        evaluate_group(task(image(1, "blue"), on_error="skip"), dataclasses.replace(loaded, segmenter=Interrupted()))
