"""Attention between frames: sums over the full attention of a real, tiny Mochi."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from families.mochi import CASE as MOCHI

from refam_analysis.analysis import (
    NoFramesError,
    NoRecordingsError,
    RecordingsDifferError,
    attention_between_frames,
    frame_shares_of,
)
from refam_analysis.models import load_model
from refam_analysis.recording import Recording, record
from refam_analysis.scenes import Scenes

KEEP = ("full", "image_to_image", "image_to_text")


def recorded(frames: int, prompt: str, seed: int) -> Recording:
    model = load_model(MOCHI.build())
    clip = np.random.default_rng(seed).integers(0, 256, size=(frames, 32, 48, 3), dtype=np.uint8)
    return record(model, list(clip), prompt, size=(32, 48), keep=KEEP, seed=seed)


@pytest.fixture(scope="module")
def clips() -> list[Recording]:
    return [recorded(13, "the red circle", 0), recorded(13, "a star", 1), recorded(13, "one", 2)]


def test_shares_are_sums_over_the_full_attention(clips: list[Recording]) -> None:
    table = frame_shares_of(clips[0]).set_index(["block", "query_frame", "keys"])["share"]
    full = clips[0]["full"].values.astype(np.float64)[0, 0].mean(axis=1)
    assert clips[0].layout.grid == (3, 2, 3)
    for query in range(3):
        rows = full[:, 6 * query : 6 * query + 6].mean(axis=1)
        for key in range(3):
            np.testing.assert_allclose(
                table.xs((query, f"frame {key}"), level=("query_frame", "keys")),
                rows[:, 6 * key : 6 * key + 6].sum(axis=1), rtol=1e-4,
            )  # fmt: skip
        np.testing.assert_allclose(table.xs((query, "text"), level=("query_frame", "keys")), rows[:, 18:].sum(axis=1),
                                   rtol=1e-4)  # fmt: skip


def test_both_maps_and_the_full_attention_say_the_same(clips: list[Recording]) -> None:
    for names in (["full"], ["image_to_image", "image_to_text"]):
        part = Recording(clips[1].dataset[names])
        pd.testing.assert_frame_equal(frame_shares_of(part), frame_shares_of(clips[1]), rtol=1e-4)


def test_the_table_is_over_clips(clips: list[Recording]) -> None:
    table = attention_between_frames(iter(clips))
    assert (table["scenes"] == 3).all() and (table["low"] <= table["value"]).all()
    np.testing.assert_allclose(table.groupby(["block", "query_frame"])[["value", "uniform"]].sum(), 1.0)
    tokens = np.array([len(clip.tokens) for clip in clips])
    expected = np.mean(tokens / (tokens + 18))
    np.testing.assert_allclose(table.loc[table["keys"] == "text", "uniform"], expected)
    means = np.mean([frame_shares_of(clip)["share"] for clip in clips], axis=0)
    np.testing.assert_allclose(table["value"], means)


def test_clips_of_different_lengths_are_not_summarised_together(clips: list[Recording]) -> None:
    with pytest.raises(RecordingsDifferError, match="Recording 1 has other blocks or another number of frames"):
        attention_between_frames([clips[0], recorded(7, "a star", 3)])


def test_pictures_have_no_frames_and_nothing_has_no_table() -> None:
    picture = Scenes("validation", length=1)[0].image
    recording = record(load_model("embedded"), picture, "the ring", keep=["image_to_image", "image_to_text"])
    with pytest.raises(NoFramesError, match="record a model of videos"):
        frame_shares_of(recording)
    with pytest.raises(NoRecordingsError):
        attention_between_frames([])
