"""Map against mask: each measure against a plain loop over pixels; and the table over blocks and scenes."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refam_analysis.analysis.localisation import (
    MaskError,
    average_precision,
    background_ratio,
    content_maps,
    localisation_by_block,
    peak_inside,
)
from refam_analysis.errors import RefamError
from refam_analysis.evaluation.metrics import points_on
from refam_analysis.segmentation.point import peak


def upsampled(heatmap: np.ndarray, pixels: int) -> np.ndarray:
    return np.kron(heatmap, np.ones((pixels, pixels)))


def plain_average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Precision at each threshold, summed over the recall it adds, by counting pixels."""
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores.ravel().tolist()), reverse=True):
        taken = scores >= threshold
        hits = np.sum(taken & truth)
        now = hits / truth.sum()
        area += (now - recall) * hits / taken.sum()
        recall = now
    return float(area)


@st.composite
def maps_and_masks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    height, width, pixels = draw(st.integers(1, 4)), draw(st.integers(2, 5)), draw(st.integers(1, 4))
    heatmap = generator.integers(0, draw(st.sampled_from([2, 5, 1000])), size=(height, width)) / 7.0
    mask = generator.random((height * pixels, width * pixels)) < 0.4
    mask.flat[0], mask.flat[-1] = True, False
    return heatmap, mask


@given(maps_and_masks())
def test_average_precision_equals_counting_pixels(case: tuple[np.ndarray, np.ndarray]) -> None:
    heatmap, mask = case
    expected = plain_average_precision(upsampled(heatmap, mask.shape[0] // heatmap.shape[0]), mask)
    assert average_precision(heatmap, mask) == pytest.approx(expected)


@given(maps_and_masks())
def test_average_precision_sees_only_the_order_of_the_heat(case: tuple[np.ndarray, np.ndarray]) -> None:
    heatmap, mask = case
    assert average_precision(np.exp(heatmap / 200.0) - 5.0, mask) == pytest.approx(average_precision(heatmap, mask))


@given(maps_and_masks())
def test_background_ratio_equals_the_means_over_pixels(case: tuple[np.ndarray, np.ndarray]) -> None:
    heatmap, mask = case
    fine = upsampled(heatmap + 0.1, mask.shape[0] // heatmap.shape[0])
    assert background_ratio(heatmap + 0.1, mask) == pytest.approx(fine[~mask].mean() / fine[mask].mean())


def test_a_map_without_information_is_worth_the_objects_share() -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[:2] = True
    assert average_precision(np.ones((4, 4)), mask) == pytest.approx(0.25)
    assert background_ratio(np.ones((4, 4)), mask) == pytest.approx(1.0)


def test_the_map_of_the_mask_itself_is_perfect() -> None:
    mask = np.zeros((6, 6), dtype=bool)
    mask[2:5, 1:3] = True
    assert average_precision(mask.astype(float), mask) == 1.0
    assert background_ratio(mask.astype(float), mask) == 0.0
    assert peak_inside(mask.astype(float), mask)


def test_the_peak_is_looked_up_in_the_middle_of_its_token() -> None:
    heatmap = np.zeros((3, 3))
    heatmap[1, 2] = 1.0
    mask = np.zeros((24, 24), dtype=bool)
    mask[12, 20] = True
    assert peak_inside(heatmap, mask)
    assert not peak_inside(heatmap.T, mask)


@given(seed=st.integers(0, 1000))
def test_the_peak_is_the_point_that_a_segmenter_would_be_asked_about(seed: int) -> None:
    generator = np.random.default_rng(seed)
    heatmap, mask = generator.random((3, 5)), generator.random((24, 40)) < 0.5
    assert peak_inside(heatmap, mask) == bool(points_on([peak(heatmap, (24, 40))], [mask])[0])


def test_sizes_that_do_not_divide_are_looked_up_by_pixel_centres() -> None:
    mask = np.array([[True, True, False, False, False]])
    assert average_precision([[1.0, 0.0]], mask) == pytest.approx(1.0)
    assert average_precision([[0.0, 1.0]], mask) == pytest.approx(2 / 5)


def test_frames_are_judged_together() -> None:
    mask = np.zeros((2, 4, 4), dtype=bool)
    mask[1, 2:, 2:] = True
    heatmap = np.zeros((2, 2, 2))
    heatmap[1, 1, 1] = 1.0
    assert average_precision(heatmap, mask) == 1.0
    assert peak_inside(heatmap, mask)


@pytest.mark.parametrize("measure", [average_precision, peak_inside, background_ratio])
@pytest.mark.parametrize(
    ("heatmap", "mask", "sentence"),
    [
        (np.ones((2, 2)), np.zeros((4, 4)), "empty"),
        (np.ones((2, 2)), np.ones((1, 4, 4)), "shape"),
        (np.array([[np.nan, 1.0]]), np.ones((4, 4)), "NaN"),
    ],
    ids=["empty-mask", "axes", "nan"],
)
def test_what_cannot_be_judged_is_refused(
    measure: object, heatmap: np.ndarray, mask: np.ndarray, sentence: str
) -> None:
    with pytest.raises(MaskError, match=sentence):
        measure(heatmap, mask)  # type: ignore[operator]


def test_a_ratio_needs_a_background_and_heat() -> None:
    with pytest.raises(MaskError, match="whole picture"):
        background_ratio(np.ones((2, 2)), np.ones((4, 4)))
    with pytest.raises(MaskError, match="negative"):
        background_ratio(-np.ones((2, 2)), np.eye(4))
    assert background_ratio([[0.0, 1.0]], [[True, False]]) == np.inf


@pytest.fixture(name="seeing")
def _seeing(make_recording: Callable, make_tokens: Callable, random_attention: Callable) -> Callable:
    """Scenes in which block 1's patch (1, 2) looks at the word "ring", and everything else at anything."""

    def build(count: int) -> list:
        recordings = []
        for seed in range(count):
            attention = random_attention(seed)
            attention[:, :, 1, :, 10 + 4 + 2, 1] = 3.0
            attention /= attention.sum(-1, keepdims=True)
            keep = ("image_to_text", "text_to_image")
            recordings.append(make_recording(attention, make_tokens(["the", "ring"], ["a"]), keep=keep))
        return recordings

    return build


def test_a_content_map_is_the_mean_over_heads_and_content_tokens(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    attention = random_attention(0, spread=2.0)
    recording = make_recording(attention, make_tokens(["the", "red", "ring"]), keep=["image_to_text", "text_to_image"])
    expected = attention[0, 0, :, :, 10:, 1:3].mean(axis=(1, 3)).reshape(2, 3, 4)
    np.testing.assert_allclose(content_maps(recording).values, expected)
    expected = attention[0, 0, :, :, 1:3, 10:].mean(axis=(1, 2)).reshape(2, 3, 4)
    np.testing.assert_allclose(content_maps(recording, direction="text_to_image").values, expected)
    text = attention[0, 0, :, :, 10:, :10]
    expected = (text / text.sum(-1, keepdims=True))[..., 0].mean(axis=1).reshape(2, 3, 4)
    found = content_maps(recording, normalisation="text_share", kinds=["stop"])
    np.testing.assert_allclose(found.values, expected)


def test_the_block_that_sees_the_object_stands_out(seeing: Callable) -> None:
    mask = np.zeros((12, 16), dtype=bool)
    mask[4:8, 8:12] = True
    table = localisation_by_block(seeing(5), [mask] * 5).set_index(["block", "measure"])
    assert table.loc[(1, "point_accuracy"), "value"] == 1.0
    assert table.loc[(1, "average_precision"), "value"] == 1.0
    assert table.loc[(1, "background_ratio"), "value"] < 0.2
    assert table.loc[(0, "average_precision"), "high"] < 1.0
    assert set(table["scenes"]) == {5}


def test_a_prompt_without_such_tokens_has_no_map(seeing: Callable) -> None:
    with pytest.raises(MaskError, match="punctuation"):
        content_maps(seeing(1)[0], kinds=["punctuation"])


def test_shares_need_the_whole_text(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    recording = make_recording(random_attention(0), make_tokens(["the", "red", "ring"]), keep=["image_to_text"])
    some = recording.select(words=["red", "ring"])
    np.testing.assert_allclose(content_maps(some), content_maps(recording))
    with pytest.raises(MaskError, match="the whole recording"):
        content_maps(some, normalisation="text_share")


def test_an_unknown_normalisation_is_refused(seeing: Callable) -> None:
    with pytest.raises(RefamError, match="'share'.*'none', 'text_share'"):
        content_maps(seeing(1)[0], normalisation="share")


def test_each_recording_needs_its_mask(seeing: Callable) -> None:
    with pytest.raises(ValueError, match="shorter"):
        localisation_by_block(seeing(2), [np.eye(4, dtype=bool)])
