"""Pictures: the right data, in the right place, under the right title."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes

from refam_analysis import figures


@pytest.fixture(name="row")
def _row() -> list[Axes]:
    with figures.figure_style():
        figure, axes = plt.subplots(1, 5, figsize=(10, 2.5))
        yield list(axes)
        figure.canvas.draw()
        plt.close(figure)


@pytest.fixture(name="image")
def _image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(32, 48, 3), dtype=np.uint8)


@pytest.fixture(name="maps")
def _maps() -> np.ndarray:
    return np.random.default_rng(1).random((2, 4, 6))


def test_every_word_has_its_map_over_the_whole_picture(row: list[Axes], image: np.ndarray, maps: np.ndarray) -> None:
    figures.token_maps(row, image, maps, ["red", "ring"], kinds=["content", "content"])
    assert [ax.get_title() for ax in row[:2]] == ["red", "ring"]
    heat = row[1].images[1]
    np.testing.assert_array_equal(heat.get_array(), maps[1])
    assert heat.get_extent() == list(row[1].images[0].get_extent())
    assert row[1].get_xlabel() == f"peak {maps[1].max():.2g}"
    assert not row[2].axison


def test_a_common_limit_makes_maps_comparable(row: list[Axes], image: np.ndarray, maps: np.ndarray) -> None:
    figures.token_maps(row, image, maps, ["red", "ring"], limit=2.0)
    assert {ax.images[1].get_clim() for ax in row[:2]} == {(0.0, 2.0)}
    assert row[0].get_xlabel() == ""


def test_words_maps_and_axes_have_to_agree(row: list[Axes], image: np.ndarray, maps: np.ndarray) -> None:
    with pytest.raises(ValueError, match="2 maps, 1 words and 5 Axes"):
        figures.token_maps(row, image, maps, ["red"])
    with pytest.raises(ValueError, match="2 maps, 2 words and 1 Axes"):
        figures.token_maps(row[:1], image, maps, ["red", "ring"])


def test_a_map_of_zeros_is_drawn(row: list[Axes], image: np.ndarray) -> None:
    figures.heat_over(row[0], image, np.zeros((4, 6)))
    assert row[0].images[1].get_clim() == (0.0, 1.0)


def test_the_mask_tints_its_pixels_only(row: list[Axes], image: np.ndarray) -> None:
    mask = np.zeros((32, 48), dtype=bool)
    mask[4:9, 10:20] = True
    figures.mask_overlay(row[0], image, mask, point=(12.0, 6.0), truth=~mask)
    drawn = np.asarray(row[0].images[0].get_array())
    np.testing.assert_allclose(drawn[~mask], image[~mask] / 255.0)
    assert not np.isclose(drawn[mask], image[mask] / 255.0).all(axis=-1).any()
    np.testing.assert_allclose(row[0].lines[-1].get_xydata(), [[12.0, 6.0]])
    assert len(row[0].collections) == 2  # the outline of the mask and of the truth


@pytest.mark.parametrize("fill", [False, True], ids=["empty", "full"])
def test_a_mask_without_an_edge_has_no_outline(row: list[Axes], image: np.ndarray, fill: bool) -> None:
    figures.mask_overlay(row[0], image, np.full((32, 48), fill))
    assert len(row[0].collections) == 0


def test_the_pipeline_shows_input_words_heatmap_and_mask(row: list[Axes], image: np.ndarray, maps: np.ndarray) -> None:
    mask = np.zeros((32, 48), dtype=bool)
    mask[4:9, 10:20] = True
    figures.pipeline_figure(
        row,
        image=image,
        expression="the red ring",
        maps=maps,
        words=["red", "ring"],
        heatmap=maps.mean(0),
        point=(20.0, 4.0),
        mask=mask,
    )
    assert [ax.get_title() for ax in row] == ["input", "red", "ring", "heatmap, point", "mask"]
    assert row[0].get_xlabel() == '"the red ring"'
    np.testing.assert_array_equal(row[0].images[0].get_array(), image)
    np.testing.assert_array_equal(row[3].images[1].get_array(), maps.mean(0))
    for ax in row[3:]:
        np.testing.assert_allclose(ax.lines[-1].get_xydata(), [[20.0, 4.0]])


def test_the_pipeline_asks_for_the_right_number_of_axes(row: list[Axes], image: np.ndarray, maps: np.ndarray) -> None:
    with pytest.raises(ValueError, match="2 words needs 5 Axes, got 4"):
        figures.pipeline_figure(
            row[:4],
            image=image,
            expression="",
            maps=maps,
            words=["red", "ring"],
            heatmap=maps[0],
            point=(0.0, 0.0),
            mask=np.zeros((32, 48), dtype=bool),
        )


def test_scenes_carry_their_sentence_and_outline(row: list[Axes], image: np.ndarray) -> None:
    mask = np.zeros((32, 48), dtype=bool)
    mask[4:9, 10:20] = True
    figures.scene_samples(row, [image], ["the small ring above the large yellow cross"], [mask])
    assert row[0].get_xlabel().replace("\n", " ") == "the small ring above the large yellow cross"
    assert "\n" in row[0].get_xlabel()
    corners = row[0].collections[0].get_paths()[0].vertices
    assert (corners[:, 0].min(), corners[:, 0].max()) == (9.5, 19.5)
    assert not row[1].axison


def test_scenes_have_to_be_complete(row: list[Axes], image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="1 images, 2 expressions, 0 masks"):
        figures.scene_samples(row, [image], ["a", "b"], [])
