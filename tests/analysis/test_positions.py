"""Labels along queries and keys, and the roles that name positions over scenes."""

from collections.abc import Callable

import numpy as np
import pytest

from refam_analysis.analysis.positions import positions, roles
from refam_analysis.models.layout import TokenLayout
from refam_analysis.prompts.tokens import Token


@pytest.mark.parametrize("axis", ["query", "key"])
@pytest.mark.parametrize("image_first", [False, True], ids=["text-first", "image-first"])
def test_labels_stand_where_the_layout_says(
    axis: str, image_first: bool, make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    tokens = make_tokens(["the", "ring"], ["."])
    recording = make_recording(random_attention(0), tokens, image_first=image_first)
    table = positions(recording["full"], axis)
    text = table[table["side"] == "text"]
    assert text["position"].tolist() == list(range(12, 22) if image_first else range(10))
    assert text["kind"].tolist() == ["stop", "content", "magnet", "special"] + ["padding"] * 6
    assert set(table.loc[table["side"] == "image", "kind"]) == {"image"}


def test_without_tokens_the_kind_is_unknown(make_recording: Callable, random_attention: Callable) -> None:
    layout = TokenLayout(slice(0, 22), slice(22, 34), (3, 4))
    recording = make_recording(random_attention(0, keys=34), [None] * 22, keep=["entropy"], anonymous=True)
    table = positions(recording["entropy"], "query")
    assert table["kind"].tolist() == ["unknown"] * 22 + ["image"] * 12
    assert roles(table, layout)[21:24] == ["text 21", "image 0,0", "image 0,1"]


def word(index: int, text: str, whole: str, kind: str = "content") -> Token:
    return Token(index, text, whole, kind, "t5", index)  # type: ignore[arg-type]


def test_pieces_and_repetitions_have_roles_of_their_own(make_recording: Callable, random_attention: Callable) -> None:
    tokens = [
        word(0, "tur", "turquoise"),
        word(1, "quoise", "turquoise"),
        word(2, "a", "a", "stop"),
        word(3, "tur", "turquoise"),
        word(4, "quoise", "turquoise"),
        word(5, "a", "a", "magnet"),
        word(6, "a", "a", "magnet"),
        word(7, "tur", "turquoise", "magnet"),
        Token(8, "</s>", "", "special", "t5", None),
        Token(9, "<pad>", "", "padding", "t5", None),
    ]
    recording = make_recording(random_attention(0), tokens, keep=["received_from_text"])
    found = roles(positions(recording["received_from_text"], "key"), recording.layout)
    assert found[:10] == [
        "turquoise",
        "turquoise [2]",
        "a",
        "turquoise (2)",
        "turquoise (2) [2]",
        "magnet a",
        "magnet a (2)",
        "magnet turquoise",
        "</s>",
        "padding 0",
    ]


def test_no_two_positions_share_a_role(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    tokens = make_tokens(["the", "padding", "on", "the", "image"], ["a", "a"])
    for image_first in (False, True):
        recording = make_recording(random_attention(0), tokens, image_first=image_first)
        found = roles(positions(recording["full"], "key"), recording.layout)
        assert len(set(found)) == len(found)
        image = [role for role in found if role.startswith("image ")]
        assert image == [f"image {y},{x}" for y, x in np.ndindex(3, 4)]
