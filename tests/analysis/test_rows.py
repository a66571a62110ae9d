"""Rows by kind of token: means over queries of a kind, over scenes that have it."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import entropy

from refam_analysis.analysis import NoRecordingsError, entropy_by_kind


def test_value_is_the_mean_over_the_kinds_rows_and_scenes(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    """Two words, an end token and seven of padding before twelve image tokens, so word rows are 0 and 1."""
    every = [random_attention(seed, spread=2.0) for seed in range(4)]
    table = entropy_by_kind([make_recording(each, make_tokens(["red", "ring"])) for each in every])
    rows = np.stack([entropy(each[0, 0], axis=-1) for each in every]) / np.log(22)  # scene, block, head, query
    table = table.set_index(["block", "kind"])
    for kind, places in {"content": slice(0, 2), "special": slice(2, 3), "image": slice(10, 22)}.items():
        expected = rows[..., places].mean(axis=(0, 2, 3))
        np.testing.assert_allclose([table.loc[(block, kind), "value"] for block in (0, 1)], expected)


def test_a_scene_without_the_kind_takes_no_part(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    magnets = [(), ("a",), ("a",)]
    recordings = [make_recording(random_attention(i), make_tokens(["ring"], names)) for i, names in enumerate(magnets)]
    table = entropy_by_kind(recordings).set_index(["block", "kind"])
    assert table.loc[(0, "magnet"), "scenes"] == 2
    assert table.loc[(0, "content"), "scenes"] == 3
    assert np.isfinite(table.loc[(0, "magnet"), "value"])
    assert "punctuation" not in table.index.get_level_values("kind")


def test_no_recording_is_refused() -> None:
    with pytest.raises(NoRecordingsError):
        entropy_by_kind([])
