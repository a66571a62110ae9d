"""Following with an image segmenter: on real clips with the embedded one, and the arithmetic on hand-made pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from refam_analysis.scenes import MovingSample
from refam_analysis.segmentation.segmenters import Segmenter
from refam_analysis.segmentation.video import (
    Followed,
    FollowSettings,
    FollowSettingsError,
    FrameSizeError,
    NotBegunError,
    Reprompting,
)
from refam_analysis.segmentation.video.appearance import Colours, deepest, pieces, same_outline, shifted
from refam_analysis.segmentation.video.propagation import Propagator, UnknownPropagatorError, load_propagator


def point_of(clip: MovingSample) -> tuple[float, float]:
    """The middle of the largest circle inside the target, by another library's erosion."""
    mask = clip.truth[0]
    while (smaller := ndimage.binary_erosion(mask)).any():
        mask = smaller
    row, column = np.argwhere(mask)[0]
    return float(column), float(row)


def follow(segmenter: Segmenter, clip: MovingSample, settings: FollowSettings | None = None) -> list[Followed]:
    follower = Reprompting(segmenter, settings)
    first = follower.begin(clip.frames[0], point_of(clip))
    return [first, *(follower.follow(frame) for frame in clip.frames[1:])]


def overlaps(found: list[Followed], clip: MovingSample) -> np.ndarray:
    pairs = zip(found, clip.truth, strict=True)
    return np.array([(one.mask & true).sum() / max((one.mask | true).sum(), 1) for one, true in pairs])


def test_a_free_object_is_covered_in_every_frame(segmenter: Segmenter, clips: list[MovingSample]) -> None:
    found = follow(segmenter, clips[0])
    assert overlaps(found, clips[0]).min() > 0.7
    assert all(one.visible for one in found) and [one.event for one in found if one.event] == ["started"]


def test_an_object_that_leaves_is_lost_and_found_again(segmenter: Segmenter, clips: list[MovingSample]) -> None:
    clip = clips[3]
    found = follow(segmenter, clip)
    assert [one.event for one in found if one.event] == ["started", "lost", "found"]
    there = clip.truth.any((1, 2))
    gone = [one for one, seen in zip(found, there, strict=True) if not seen]
    assert gone and not any(one.visible or one.mask.any() for one in gone)
    assert overlaps(found, clip)[-1] > 0.7


def test_an_object_behind_another_is_covered_again_at_the_end(segmenter: Segmenter, clips: list[MovingSample]) -> None:
    assert overlaps(follow(segmenter, clips[1]), clips[1])[-1] > 0.5


def test_masks_are_empty_exactly_where_the_object_is_said_to_be_out_of_sight(
    segmenter: Segmenter, clips: list[MovingSample]
) -> None:
    for one in (one for clip in clips for one in follow(segmenter, clip)):
        assert one.mask.any() == one.visible and 0.0 <= one.score <= 1.0


def test_points_lie_in_the_frame(segmenter: Segmenter, clips: list[MovingSample]) -> None:
    points = np.array([point for clip in clips for one in follow(segmenter, clip) for point in one.points])
    assert len(points) and (points >= 0).all() and (points <= 95).all()


@pytest.mark.parametrize("stop", [3, 13], ids=["in-sight", "out-of-sight"])
def test_a_restored_follower_goes_on_alike(segmenter: Segmenter, clips: list[MovingSample], stop: int) -> None:
    clip = clips[3]
    one, other = Reprompting(segmenter), Reprompting(segmenter)
    one.begin(clip.frames[0], point_of(clip))
    for frame in clip.frames[1:stop]:
        one.follow(frame)
    other.restore(one.state())
    for frame in clip.frames[stop:]:
        expected, restored = one.follow(frame), other.follow(frame)
        assert np.array_equal(expected.mask, restored.mask)
        assert (expected.score, expected.event, expected.points) == (restored.score, restored.event, restored.points)


def test_the_state_does_not_grow(segmenter: Segmenter, clips: list[MovingSample]) -> None:
    follower = Reprompting(segmenter)
    follower.begin(clips[0].frames[0], point_of(clips[0]))
    sizes = set()
    for frame in clips[0].frames[1:]:
        follower.follow(frame)
        sizes.add(sum(tensor.nbytes for tensor in follower.state().values()))
    assert len(sizes) == 1


def test_the_model_is_asked_again_only_while_the_object_is_lost(
    segmenter: Segmenter, clips: list[MovingSample]
) -> None:
    clip, asked = clips[3], []

    def ask(frame: np.ndarray) -> tuple[float, float]:
        asked.append(next(i for i, one in enumerate(clip.frames) if np.array_equal(one, frame)))
        return 5.0, 5.0

    follower = Reprompting(segmenter, replace(FollowSettings(), patience=0), ask=ask)
    found = [follower.begin(clip.frames[0], point_of(clip)), *(follower.follow(frame) for frame in clip.frames[1:])]
    lost = next(i for i, one in enumerate(found) if one.event == "lost")
    assert asked and asked[0] == lost + 1 and all(b - a >= 4 for a, b in zip(asked, asked[1:], strict=False))
    assert all((5.0, 5.0) in found[i].points for i in asked)


def test_without_an_answer_the_point_alone_is_known(clips: list[MovingSample]) -> None:
    class Silent:
        def set_image(self, image: np.ndarray) -> None:
            self.size = image.shape[:2]

        def predict(self, points: object) -> tuple[np.ndarray, np.ndarray]:
            number = len(np.asarray(points))
            return np.zeros((number, 3, *self.size), bool), np.zeros((number, 3), np.float32)

    started = Reprompting(Silent()).begin(clips[0].frames[0], (30.0, 20.0))
    assert np.argwhere(started.mask).tolist() == [[20, 30]]


def test_nothing_is_followed_before_it_began(segmenter: Segmenter, clips: list[MovingSample]) -> None:
    with pytest.raises(NotBegunError, match="call begin"):
        Reprompting(segmenter).follow(clips[0].frames[0])


def test_a_frame_of_another_size_is_refused(segmenter: Segmenter, clips: list[MovingSample]) -> None:
    follower = Reprompting(segmenter)
    follower.begin(clips[0].frames[0], point_of(clips[0]))
    with pytest.raises(FrameSizeError, match="Frame 1 has the size"):
        follower.follow(clips[0].frames[1][2:])


@pytest.mark.parametrize("change", [{"lost": 1.5}, {"found": -0.1}, {"reach": -1.0}, {"patience": -1}], ids=str)
def test_settings_without_meaning_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(FollowSettingsError, match=next(iter(change))):
        FollowSettings(**change)  # type: ignore[arg-type]


def test_ways_of_following_are_found_by_name(segmenter: Segmenter) -> None:
    found = load_propagator("reprompting", segmenter=segmenter)
    assert isinstance(found, Reprompting) and isinstance(found, Propagator) and found.segmenter is segmenter
    assert load_propagator(found, segmenter=segmenter) is found
    for wrong in ("optical-flow", "./nowhere/else", 3):
        with pytest.raises(UnknownPropagatorError, match="There is no propagation"):
            load_propagator(wrong, segmenter=segmenter)  # type: ignore[arg-type]


# Appearance


def test_likelihood_is_the_share_of_a_colour_inside_against_outside() -> None:
    """A quarter red inside and none outside, a colour in equal shares on both sides, and one that was never seen."""
    frame = np.zeros((8, 8, 3), np.uint8)
    frame[:4], frame[4:] = (200, 0, 0), (0, 0, 200)
    frame[2:6, :4] = (0, 200, 0)
    mask = np.zeros((8, 8), bool)
    mask[:4] = True
    likely = Colours.learn(frame, mask).likelihood(frame)
    assert likely[0].min() > 0.99 and likely[7].max() < 0.01
    assert likely[3, :4] == pytest.approx(0.5, abs=1e-3)
    white = np.full((8, 8, 3), 255, np.uint8)
    assert Colours.learn(frame, mask).likelihood(white).max() < 0.5


def test_the_deepest_pixel_of_a_square_is_its_middle() -> None:
    region = np.zeros((20, 30), bool)
    region[4:11, 12:19] = True
    assert deepest(region) == (7, 15)


def test_pieces_come_by_size_without_the_small_ones() -> None:
    region = np.zeros((10, 12), bool)
    region[0:2, 0:2], region[4:9, 4:8], region[0, 11] = True, True, True
    assert [int(piece.sum()) for piece in pieces(region, least=2, most=5)] == [20, 4]
    assert len(pieces(region, least=0, most=1)) == 1 and pieces(region & False, least=0, most=3) == []


def test_the_outline_does_not_depend_on_the_place() -> None:
    mask = np.zeros((40, 40), bool)
    mask[5:12, 5:9] = True
    assert same_outline(mask, shifted(mask, np.array([17.0, 11.0]))) == 1.0
    assert same_outline(mask, mask.T) < 0.7 and same_outline(mask, mask & False) == 0.0
