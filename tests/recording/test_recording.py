"""A Recording: what it gives out, selects, and says when something is not there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel

from refam_analysis.models.layout import TokenLayout
from refam_analysis.prompts import Token
from refam_analysis.recording import QuantityMissingError, Recorder, Recording, UnknownWordError

TOKENS = [
    Token(0, "The", "The", "stop", "t5", 0),
    Token(1, "cir", "circle", "content", "t5", 1),
    Token(2, "cle", "circle", "content", "t5", 1),
    Token(3, "</s>", "", "special", "t5", None),
    Token(4, "<pad>", "", "padding", "t5", None),
]


@pytest.fixture
def recording(transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: object) -> Recording:
    with torch.no_grad(), Recorder(transformer, layout, keep=["text_to_image", "entropy"]) as recorder:
        transformer(**inputs())
    attributes = {"prompt": "The <circle>", "model": "tiny & random"}
    return recorder.recording(noise_levels=[0.6], tokens=[TOKENS], attributes=[attributes])


def test_it_lists_what_was_kept(recording: Recording) -> None:
    assert list(recording) == ["text_to_image", "entropy"] and len(recording) == 2
    assert "entropy" in recording and "full" not in recording


def test_arrays_know_their_model(recording: Recording) -> None:
    assert recording["entropy"].attrs["model"] == "tiny & random"
    assert "nats" in recording["entropy"].attrs["long_name"]


def test_what_was_not_kept_is_a_key_error_that_says_so(recording: Recording) -> None:
    with pytest.raises(KeyError) as caught:
        recording["full"]
    assert isinstance(caught.value, QuantityMissingError)
    assert str(caught.value) == (
        "There is no 'full' here: it was not kept. Kept were text_to_image, entropy; record again with keep=['full']."
    )


def test_an_unknown_name_lists_those_that_exist(recording: Recording) -> None:
    with pytest.raises(QuantityMissingError, match="not a quantity.*received_from_image"):
        recording["attention"]


def test_what_the_model_lacks_is_explained(recording: Recording) -> None:
    recording.attrs["absent"] = {"full": "the model's self-attention has no softmax."}
    with pytest.raises(QuantityMissingError, match="no softmax"):
        recording["full"]


def test_a_word_selects_all_its_pieces(recording: Recording) -> None:
    chosen = recording.select(words="CIRCLE")
    assert [token.text for token in chosen.tokens] == ["cir", "cle"]
    expected = recording["text_to_image"].isel(token=[1, 2])
    assert np.array_equal(chosen["text_to_image"], expected)
    assert chosen["text_to_image"].word.values.tolist() == ["circle", "circle"]
    assert chosen["entropy"].sizes["query"] == 17


def test_a_word_that_is_not_there_lists_the_words(recording: Recording) -> None:
    with pytest.raises(UnknownWordError) as caught:
        recording.select(words=["circle", "square"])
    assert str(caught.value) == "The prompt has no word 'square'. Its words are: The circle."
    with pytest.raises(KeyError):
        recording.select(words=[])


def test_blocks_are_selected_by_number(recording: Recording) -> None:
    chosen = recording.select(blocks=[3, 1])
    assert chosen["entropy"].block.values.tolist() == [3, 1]
    assert np.array_equal(chosen["entropy"].sel(block=3), recording["entropy"].isel(block=3))
    assert recording.select(blocks=2)["entropy"].dims[2] == "block"
    assert recording.select(blocks=np.int64(2))["entropy"].block.values.tolist() == [2]  # type: ignore[arg-type]
    assert chosen.select(blocks=1)["entropy"].block_type.values.tolist() == ["double"]


def test_a_block_that_was_not_recorded_is_a_key_error(recording: Recording) -> None:
    with pytest.raises(QuantityMissingError, match=r"recorded were the blocks \[3, 1\]"):
        recording.select(blocks=[3, 1]).select(blocks=2)


def test_layout_and_noise_levels_come_back(recording: Recording, layout: TokenLayout) -> None:
    assert recording.layout == layout
    assert recording.noise_levels == (0.6,)


def test_it_shows_itself(recording: Recording) -> None:
    assert repr(recording) == (
        "<Recording of tiny & random, 'The <circle>', noise level 0.6: step 1, branch 1, block 5, head 2; "
        "text_to_image, entropy>"
    )
    shown = recording._repr_html_()
    assert "&lt;circle&gt;" in shown and "<circle>" not in shown and "tiny &amp; random" in shown
    assert "token 5, y 3, x 4" in shown and len(shown) < 1000
