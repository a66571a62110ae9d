"""Axes and labels: what each array is given out with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from refam_analysis.models.layout import TokenLayout
from refam_analysis.prompts import Token
from refam_analysis.recording.labels import add_labels, build_dataset, drop_labels, give_out, make_axes

LAYOUT = TokenLayout(text=slice(6, 9), image=slice(0, 6), grid=(2, 3))
TOKENS = [
    Token(0, "red", "red", "content", "t5", 0),
    Token(1, ".", ".", "magnet", "t5", 1),
    Token(2, "<pad>", "", "padding", "t5", None),
]


def dataset(*names: str, tokens: Any = TOKENS, heads: Any = range(2)) -> xr.Dataset:
    shapes = {
        "full": (9, 9),
        "text_to_text": (3, 3),
        "image_to_text": (6, 3),
        "entropy": (9,),
        "received_from_text": (9,),
    }
    axes = make_axes(names, LAYOUT, blocks=[0, 4], branches=["conditional"], noise_levels=[0.6], heads=heads)
    return build_dataset(
        {name: np.zeros((1, 1, 2, 2 if heads else 1, *shapes[name]), np.float32) for name in names},
        axes, LAYOUT, tokens=tokens, block_types={0: "double", 4: "single"}, attributes={},
    )  # fmt: skip


def test_text_after_the_image_is_labelled_by_its_position() -> None:
    array = give_out(dataset("entropy")["entropy"])
    assert array.side.values.tolist() == ["image"] * 6 + ["text"] * 3
    assert array.kind.values.tolist() == [""] * 6 + ["content", "magnet", "padding"]


def test_a_square_map_of_one_side_has_query_and_key() -> None:
    array = give_out(dataset("text_to_text", "full")["text_to_text"])
    assert array.dims[-2:] == ("query", "key") and array.shape[-2:] == (3, 3)
    assert array["query"].values.tolist() == [6, 7, 8]
    assert array.word.dims == ("query",) and array.key_word.dims == ("key",)


def test_keys_without_queries_have_the_plain_names() -> None:
    array = give_out(dataset("received_from_text")["received_from_text"])
    assert array.side.dims == ("key",) and "key_side" not in array.coords
    assert array.isel(key=array.kind == "magnet")["key"].values.tolist() == [7]


def test_without_tokens_only_sides_are_known() -> None:
    array = give_out(dataset("entropy", tokens=())["entropy"])
    assert "side" in array.coords and "word" not in array.coords


def test_a_mean_over_heads_has_no_head_number() -> None:
    found = dataset("entropy", heads=None)
    assert found.sizes["head"] == 1 and "head" not in found.coords and found.attrs["heads"] == "mean"


@pytest.mark.parametrize("tokens", [TOKENS, ()], ids=["tokens", "no-tokens"])
def test_labels_come_back_from_the_attributes(tokens: Any) -> None:
    found = dataset("full", "text_to_text", "image_to_text", tokens=tokens).isel(block=[1], token=[2, 0])
    bare = drop_labels(found)
    assert all(values.dtype.kind in "if" for values in bare.variables.values())
    xr.testing.assert_identical(add_labels(bare), found)
