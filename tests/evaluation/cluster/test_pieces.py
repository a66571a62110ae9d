"""Work of dead workers: halves down to one expression, and rows that come together once, whatever comes twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refam_analysis.evaluation.cluster.pieces import ALONE, Gathering, Piece
from refam_analysis.evaluation.datasets import ReferringExpression, ReferringImage, encode_mask, load_dataset
from refam_analysis.evaluation.datasets.drawn import ScenePicture
from refam_analysis.evaluation.runner import GroupError, GroupTask, RunConfiguration
from refam_analysis.evaluation.runner.rows import CLIP_SCHEMA, IMAGE_SCHEMA, as_table

TARGET = np.zeros((96, 96), dtype=bool)
TARGET[5:20, 10:30] = True


def task_of(*texts: str, on_error: str = "skip") -> GroupTask:
    """An image with these expressions, all of one target."""
    rle = encode_mask(TARGET)
    expressions = tuple(ReferringExpression(f"image-1/{i}", text, rle) for i, text in enumerate(texts))
    item = ReferringImage("image-1", expressions, ScenePicture("test", 0, 96))
    return GroupTask(0, item, RunConfiguration("scenes", "test"), "right", on_error)


def texts(pieces: list[Piece]) -> list[list[str]]:
    return [[expression.text for expression in piece.task.item.expressions] for piece in pieces]


def rows_of(piece: Piece, mark: str = "") -> list[dict[str, Any]]:
    return [{"number": i, "text": e.text + mark} for i, e in enumerate(piece.task.item.expressions)]


def test_a_piece_is_halved_and_its_rows_keep_their_numbers() -> None:
    left, right = Piece.of(task_of("a", "b", "c")).smaller()
    assert texts([left, right]) == [["a"], ["b", "c"]]
    assert [row["number"] for row in right.renumbered(rows_of(right))] == [1, 2]
    (second, third) = right.smaller()
    assert third.renumbered(rows_of(third)) == [{"number": 2, "text": "c"}]
    assert second.whole == third.whole == 3


def test_one_expression_is_tried_again_and_then_given_up() -> None:
    piece, tries = Piece.of(task_of("a")), 1
    while smaller := piece.smaller():
        (piece,), tries = smaller, tries + 1
    assert tries == ALONE


@given(st.integers(1, 9), st.randoms(use_true_random=False))
def test_an_image_is_given_out_once_and_in_order(number: int, random: Any) -> None:
    whole = Piece.of(task_of(*"abcdefghi"[:number]))
    pieces, parts = [whole], []
    while pieces:  # any way of halving, with some pieces answered twice
        piece = pieces.pop(random.randrange(len(pieces)))
        if len(piece) > 1 and random.random() < 0.6:
            pieces += piece.smaller()
        else:
            parts += [piece] * random.choice([1, 2])
    random.shuffle(parts)
    gathering = Gathering()
    given_out = [rows for piece in parts if (rows := gathering.add(piece, piece.renumbered(rows_of(piece))))]
    assert given_out == [rows_of(whole)]
    assert gathering.complete == 1


def test_an_expression_that_kills_workers_scores_as_an_empty_mask() -> None:
    task = task_of("a", on_error="skip")
    (row,) = Piece.of(task).lost("connection lost")
    assert row["error"].startswith("WorkerLostError: the worker died 1 times over this expression alone (connection")
    area = int(TARGET.sum())
    assert (row["iou"], row["union"], row["true_area"], row["on_target"]) == (0.0, area, area, 0.0)
    assert as_table([row], IMAGE_SCHEMA).num_rows == 1


def test_a_clip_that_kills_workers_has_rows_too() -> None:
    dataset = load_dataset("moving-scenes", "test", limit=1)
    task = GroupTask(0, dataset[0], RunConfiguration("moving-scenes", "test"), dataset.empty, "skip")
    (row,) = Piece.of(task).lost("connection lost")
    assert (row["j"], row["f"], row["iou"]) == (0.0, 0.0, 0.0)
    assert as_table([row], CLIP_SCHEMA).num_rows == 1


def test_a_run_that_is_to_stop_names_the_expression() -> None:
    task = task_of("a ring", on_error="stop")
    with pytest.raises(GroupError, match="image-1, expression 'a ring': WorkerLostError"):
        Piece.of(task).lost("connection lost")
