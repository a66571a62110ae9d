"""The judge of shapes: right on true scenes, blind to colour, and clear about what it cannot judge."""

from __future__ import annotations

import numpy as np
import pytest

from refam_analysis.evaluation.shape_judge import (
    NAMES,
    ShapeNetwork,
    ShapePictureError,
    judge_shapes,
    load_shape_judge,
    shape_accuracy,
    single_objects,
)
from refam_analysis.scenes.sampling import Style


@pytest.fixture(scope="module")
def judge() -> ShapeNetwork:
    return load_shape_judge()


@pytest.mark.parametrize("style", ["plain", "rich"])
def test_nearly_every_true_shape_is_named(judge: ShapeNetwork, style: Style) -> None:
    table = shape_accuracy(judge, styles=[style], scenes=120)
    assert set(table["shape"]) == set(NAMES[style])
    assert table["right"].mean() > 0.97


def test_other_colours_and_sizes_do_not_change_the_answer(judge: ShapeNetwork) -> None:
    pictures = np.stack([one.image for one in single_objects("plain", 24)])
    names = judge_shapes(pictures, judge=judge)
    assert judge_shapes(pictures[..., ::-1], judge=judge) == names
    assert judge_shapes(pictures.repeat(2, axis=1).repeat(2, axis=2), judge=judge) == names


def test_an_untrained_judge_knows_nothing() -> None:
    assert shape_accuracy(ShapeNetwork().eval(), styles=["plain"], scenes=120)["right"].mean() < 0.5


@pytest.mark.parametrize("shape", [(96, 96, 3), (1, 96, 64, 3), (1, 96, 96, 4)], ids=str)
def test_what_is_no_square_picture_is_refused(judge: ShapeNetwork, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapePictureError, match="give \\(picture, side, side, 3\\)"):
        judge_shapes(np.zeros(shape, np.uint8), judge=judge)
