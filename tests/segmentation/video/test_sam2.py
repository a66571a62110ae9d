"""SAM 2's video predictor on a small random model of the real classes: the same masks as on the whole clip at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from refam_analysis.segmentation.video import FrameSizeError, NotBegunError, load_propagator
from refam_analysis.segmentation.video.sam2 import Sam2Propagator, Sam2VideoSourceError, load_sam2_video

POINT = (20.0, 15.0)


@pytest.fixture(scope="module")
def propagator(sam2_video_folder: Path) -> Sam2Propagator:
    return load_sam2_video(sam2_video_folder)


def followed(propagator: Sam2Propagator, frames: np.ndarray) -> list[np.ndarray]:
    return [propagator.begin(frames[0], POINT).mask, *(propagator.follow(frame).mask for frame in frames[1:])]


@torch.inference_mode()
def whole_clip(propagator: Sam2Propagator, frames: np.ndarray) -> list[np.ndarray]:
    """transformers' own way: the whole clip in one session."""
    model, processor = propagator.model, propagator.processor
    session = processor.init_video_session(video=list(frames))
    processor.add_inputs_to_inference_session(
        inference_session=session, frame_idx=0, obj_ids=1, input_points=[[[list(POINT)]]], input_labels=[[[1]]]
    )
    model(inference_session=session, frame_idx=0)
    return [
        processor.post_process_masks([answer.pred_masks], [frames.shape[1:3]])[0][0, 0].numpy()
        for answer in model.propagate_in_video_iterator(session)
    ]


def test_a_folder_is_recognised_and_loaded(sam2_video_folder: Path) -> None:
    for source in (sam2_video_folder, str(sam2_video_folder)):
        assert isinstance(load_propagator(source, segmenter="embedded"), Sam2Propagator)


def test_masks_are_those_of_the_whole_clip_at_once(propagator: Sam2Propagator, noise: np.ndarray) -> None:
    ours, expected = followed(propagator, noise), whole_clip(propagator, noise)
    assert len(ours) == len(expected) == len(noise)
    shares = [(one == other).mean() for one, other in zip(ours, expected, strict=True)]
    assert min(shares) > 0.99
    assert any(mask.any() and not mask.all() for mask in ours)


def test_masks_depend_on_the_order_of_the_frames(propagator: Sam2Propagator, noise: np.ndarray) -> None:
    """Each frame meets the memory of those before it: exchanging two changes what is found in them and after."""
    exchanged = noise.copy()
    exchanged[[4, 7]] = exchanged[[7, 4]]
    first, second = followed(propagator, noise), followed(propagator, exchanged)
    same = [np.array_equal(one, other) for one, other in zip(first, second, strict=True)]
    assert same[:4] == [True] * 4 and not same[4]


def test_the_same_clip_gives_the_same_masks(propagator: Sam2Propagator, noise: np.ndarray) -> None:
    again = followed(propagator, noise[:8])
    assert all(np.array_equal(*pair) for pair in zip(followed(propagator, noise[:8]), again, strict=True))


@pytest.mark.parametrize("stop", [1, 9, 24], ids=lambda stop: f"after-{stop}")
def test_a_restored_propagator_goes_on_alike(sam2_video_folder: Path, noise: np.ndarray, stop: int) -> None:
    one, other = load_sam2_video(sam2_video_folder), load_sam2_video(sam2_video_folder)
    one.begin(noise[0], POINT)
    for frame in noise[1:stop]:
        one.follow(frame)
    other.restore(one.state())
    for frame in noise[stop:]:
        expected, restored = one.follow(frame), other.follow(frame)
        assert np.array_equal(expected.mask, restored.mask) and expected.score == restored.score


def test_memory_holds_the_last_frames_only(propagator: Sam2Propagator, noise: np.ndarray) -> None:
    sizes = []
    propagator.begin(noise[0], POINT)
    for frame in (*noise[1:], *noise[1:]):
        propagator.follow(frame)
        sizes.append(sum(tensor.nbytes for tensor in propagator.state().values()))
    assert sizes[20] == sizes[-1]
    outputs = propagator._session.output_dict_per_obj[0]
    assert len(outputs["non_cond_frame_outputs"]) == 16
    held = [len(values) for values in outputs["non_cond_frame_outputs"].values()]
    assert held.count(4) == 7


def test_a_known_mask_is_taken_up(propagator: Sam2Propagator, noise: np.ndarray) -> None:
    mask = np.zeros(noise.shape[1:3], dtype=bool)
    mask[8:30, 12:40] = True
    started = propagator.begin(noise[0], POINT, mask)
    assert (started.mask & mask).sum() / (started.mask | mask).sum() > 0.8


def test_an_object_out_of_sight_has_an_empty_mask_and_is_told(sam2_video_folder: Path, noise: np.ndarray) -> None:
    propagator = load_sam2_video(sam2_video_folder)
    propagator.begin(noise[0], POINT)
    propagator.model.mask_decoder.pred_obj_score_head.proj_out.bias.data.fill_(-100.0)
    lost = propagator.follow(noise[1])
    assert lost.event == "lost" and not lost.visible and not lost.mask.any() and lost.score < 0.5
    assert propagator.follow(noise[2]).event is None
    propagator.model.mask_decoder.pred_obj_score_head.proj_out.bias.data.fill_(100.0)
    assert propagator.follow(noise[3]).event == "found"


def test_nothing_is_followed_before_it_began(sam2_video_folder: Path, noise: np.ndarray) -> None:
    propagator = load_sam2_video(sam2_video_folder)
    with pytest.raises(NotBegunError, match="call begin"):
        propagator.follow(noise[0])
    with pytest.raises(NotBegunError):
        propagator.state()


def test_a_frame_of_another_size_is_refused(propagator: Sam2Propagator, noise: np.ndarray) -> None:
    propagator.begin(noise[0], POINT)
    with pytest.raises(FrameSizeError, match=r"Frame 1 has the size \(39, 56\)"):
        propagator.follow(noise[1][1:])


@pytest.mark.parametrize("what", ["nothing", "weights"])
def test_a_broken_folder_is_told(sam2_video_folder: Path, tmp_path: Path, what: str) -> None:
    if what == "weights":
        (tmp_path / "config.json").write_text((sam2_video_folder / "config.json").read_text())
    with pytest.raises(Sam2VideoSourceError, match="gives no SAM 2 video model"):
        load_sam2_video(tmp_path)
