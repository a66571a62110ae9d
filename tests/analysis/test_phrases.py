"""Phrases among words: the splitter on sentences whose phrases are known, shares against plain loops, and the null."""

from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refam_analysis.analysis.phrases import (
    PhrasesError,
    find_phrases,
    groupings,
    phrase_structure,
    within_phrase_excess,
    within_phrase_mass,
    word_attention,
)
from refam_analysis.prompts import Token, make_prompt
from refam_analysis.recording.quantities import QuantityMissingError
from refam_analysis.recording.recording import Recording
from refam_analysis.scenes import KINDS, Scenes
from refam_analysis.scenes.expressions import PLACES, RELATIONS

SENTENCE = ("the", "ring", "on", "the", "left")


def joined(phrases: Sequence[Sequence[str]]) -> list[str]:
    return [" ".join(phrase) for phrase in phrases]


@pytest.mark.parametrize("kind", KINDS)
def test_the_phrases_of_the_scenes_are_the_parts_that_they_were_made_of(kind: str) -> None:
    scenes = Scenes("validation", length=200, kinds=[kind])  # type: ignore[list-item]
    sentences = {expression.text for number in range(200) for expression in scenes.draw(number)[1]}
    assert len(sentences) > 30
    for sentence in sentences:
        first, *rest = joined(find_phrases(sentence))
        assert first.startswith("the ")
        match kind:
            case "location":
                (place,) = rest
                assert place in PLACES
            case "relation":
                relation, landmark = rest
                assert relation in RELATIONS and landmark.startswith("the ")
            case _:
                assert not rest


@pytest.mark.parametrize(
    "phrases",
    [
        ["a man", "with", "a red hat"],
        ["the dog", "next to", "the small cat"],
        ["the cup", "in front of", "the box"],
        ["the square", "to the left of", "the ring"],
        ["the square", "right of", "cross"],
        ["the left one, please"],
        ["The Ring", "On The Left"],
        ["zebra"],
    ],
    ids=" | ".join,
)
def test_other_sentences_are_cut_at_their_function_words(phrases: list[str]) -> None:
    assert joined(find_phrases(" ".join(phrases))) == [phrase.replace(",", " ,") for phrase in phrases]


@given(st.lists(st.sampled_from("the a red ring on in left right of next to above and , . it's".split()), min_size=1))
def test_phrases_joined_are_the_words_of_the_sentence(words: list[str]) -> None:
    phrases = find_phrases(" ".join(words))
    expected = [word.text for word in make_prompt(" ".join(words)).words]
    assert [word for phrase in phrases for word in phrase] == expected
    assert all(phrases)


def pieces_of(sentence: Sequence[tuple[str, ...]]) -> tuple[Token, ...]:
    """The pieces of each word; then a magnet, an end token and padding; ten in all."""
    tokens: list[Token] = []
    for index, pieces in enumerate(sentence):
        for piece in pieces:
            tokens.append(Token(len(tokens), piece, "".join(pieces), "content", "t5", index))
    tokens.append(Token(len(tokens), ".", ".", "magnet", "t5", len(sentence)))
    tokens.append(Token(len(tokens), "</s>", "", "special", "t5", None))
    return tuple(tokens + [Token(i, "<pad>", "", "padding", "t5", None) for i in range(len(tokens), 10)])


@pytest.mark.parametrize("image_first", [False, True], ids=["text-first", "image-first"])
def test_words_share_out_what_they_give_to_the_rest_of_the_sentence(
    make_recording: Callable, random_attention: Callable, image_first: bool
) -> None:
    attention = random_attention(3, spread=2.0)
    recording = make_recording(attention, pieces_of([("the",), ("tri", "angle"), ("left",)]), image_first=image_first)
    start = 12 if image_first else 0
    members = [[0], [1, 2], [3]]
    found = word_attention(recording)
    assert found["word"].values.tolist() == ["the", "triangle", "left"] == found["key_word"].values.tolist()
    for block in range(2):
        for head in range(2):
            matrix = attention[0, 0, block, head]
            for row, queries in enumerate(members):
                given_to = [
                    0.0 if row == column else sum(matrix[start + i, start + j] for i in queries for j in keys)
                    for column, keys in enumerate(members)
                ]
                expected = np.array(given_to) / sum(given_to)
                np.testing.assert_allclose(found.values[0, block, head, row], expected, atol=1e-12)


def test_a_word_of_two_encoders_is_one_word(make_recording: Callable, random_attention: Callable) -> None:
    first = [Token(i, word, word, "content", "clip", i) for i, word in enumerate(("red", "ring"))]
    second = [Token(2 + i, word, word, "content", "t5", i) for i, word in enumerate(("red", "ring"))]
    padding = [Token(i, "<pad>", "", "padding", "t5", None) for i in range(4, 10)]
    found = word_attention(make_recording(random_attention(0), tuple(first + second + padding)))
    assert found["word"].values.tolist() == ["red", "ring"]
    np.testing.assert_allclose(found.values[0, 0, 0], [[0.0, 1.0], [1.0, 0.0]])


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_groupings_are_every_order_of_the_sizes_once(sizes: list[int]) -> None:
    found = groupings(sizes)
    assert found[0] == tuple(sizes)
    assert len(found) == len(set(found))
    assert set(found) == set(permutations(sizes))


def test_many_orders_are_drawn_at_random() -> None:
    sizes = [1, 2, 3, 4, 5, 6]
    found = groupings(sizes, most=50, seed=1)
    assert found[0] == tuple(sizes) and len(set(found)) == 50
    assert all(sorted(order) == sizes for order in found)
    assert found == groupings(sizes, most=50, seed=1) != groupings(sizes, most=50, seed=2)


@given(seed=st.integers(0, 1000), sizes=st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_the_share_within_phrases_is_that_of_a_plain_loop(seed: int, sizes: list[int]) -> None:
    count = sum(sizes)
    attention = np.random.default_rng(seed).random((count, count))
    np.fill_diagonal(attention, 0.0)
    expected, start = 0.0, 0
    for size in sizes:
        for query in range(start, start + size):
            expected += attention[query, start : start + size].sum() / count
        start += size
    assert within_phrase_mass(attention, sizes) == pytest.approx(expected)


def attending(weights: np.ndarray) -> np.ndarray:
    """(step, branch, block, head, query, key) over ten text tokens and twelve patches: words attend as the weights."""
    matrix = np.full((22, 22), 1.0)
    matrix[: len(weights), : len(weights)] = weights
    matrix /= matrix.sum(1, keepdims=True)
    return np.broadcast_to(matrix, (1, 1, 2, 2, 22, 22)).copy()


def test_attention_within_phrases_exceeds_other_groupings(make_recording: Callable, make_tokens: Callable) -> None:
    phrase = np.array([0, 0, 1, 1, 1])
    weights = np.where(phrase[:, None] == phrase, 1.0, 0.1)
    found = phrase_structure(make_recording(attending(weights), make_tokens(SENTENCE)))
    within = np.mean([1.0 / 1.3] * 2 + [2.0 / 2.2] * 3)
    swapped = np.mean([1.1 / 1.3] * 2 + [0.2 / 2.2] + [1.0 / 2.2] * 2)
    np.testing.assert_allclose(found.sel(measure="observed"), within)
    np.testing.assert_allclose(found.sel(measure="null"), swapped)
    np.testing.assert_allclose(found.sel(measure="excess"), within - swapped)
    np.testing.assert_allclose(found.sel(measure="as_block_diagonal"), 0.5)


@pytest.mark.parametrize("reach", [0.5, 1.0, 3.0], ids=lambda reach: f"reach-{reach}")
def test_words_that_attend_by_distance_alone_have_no_excess(
    reach: float, make_recording: Callable, make_tokens: Callable
) -> None:
    places = np.arange(5)
    weights = np.exp(-np.abs(places[:, None] - places) / reach)
    recording = make_recording(attending(weights), make_tokens(SENTENCE))
    np.testing.assert_allclose(within_phrase_excess(recording), 0.0, atol=1e-12)
    assert float(phrase_structure(recording).sel(measure="observed").min()) > 0.4


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(seed=st.integers(0, 1000))
def test_the_excess_is_the_mean_over_heads_against_all_other_orders(
    seed: int, make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    words = ["the", "ring", "above", "the", "small", "star"]
    recording = make_recording(random_attention(seed, spread=1.5), make_tokens(words))
    matrices = word_attention(recording).values[0]
    shares = {order: within_phrase_mass(matrices, order) for order in set(permutations((2, 1, 3)))}
    own = shares.pop((2, 1, 3))
    expected = (own - sum(shares.values()) / 5).mean(axis=-1)
    np.testing.assert_allclose(within_phrase_excess(recording), expected, atol=1e-12)


@pytest.mark.parametrize(
    "words", [("the", "red", "ring"), ("the", "red", "ring", "on", "the", "left")], ids=["one-phrase", "equal-sizes"]
)
def test_a_sentence_with_one_grouping_says_nothing(
    words: Sequence[str], make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    found = phrase_structure(make_recording(random_attention(0), make_tokens(words)))
    assert found.shape == (4, 2, 2)
    assert np.isnan(found).all()


def test_phrases_may_be_given(make_recording: Callable, make_tokens: Callable, random_attention: Callable) -> None:
    recording = make_recording(random_attention(0), make_tokens(SENTENCE))
    given_by_caller = within_phrase_excess(recording, [["THE"], ["ring", "on", "the", "left"]])
    assert not np.allclose(given_by_caller, within_phrase_excess(recording))
    np.testing.assert_array_equal(
        within_phrase_excess(recording, find_phrases("the ring on the left")), within_phrase_excess(recording)
    )


@pytest.mark.parametrize(
    "phrases",
    [[["the", "ring"]], [["ring", "the"], ["on", "the", "left"]], [["the", "ring"], [], ["on", "the", "left"]]],
    ids=["words-missing", "order", "empty-phrase"],
)
def test_what_is_not_the_sentence_cut_into_pieces_is_refused(
    phrases: list[list[str]], make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    with pytest.raises(PhrasesError, match="'the ring on the left' cut into pieces"):
        phrase_structure(make_recording(random_attention(0), make_tokens(SENTENCE)), phrases)


def test_words_have_to_be_known(make_recording: Callable, make_tokens: Callable, random_attention: Callable) -> None:
    with pytest.raises(PhrasesError, match="does not know the words"):
        word_attention(make_recording(random_attention(0), make_tokens(SENTENCE), anonymous=True))


def test_the_queries_of_every_word_have_to_be_kept(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    recording = make_recording(random_attention(0), make_tokens(SENTENCE))
    narrowed = Recording(recording.dataset.isel(query=[0, 2, 3, 4]))
    with pytest.raises(PhrasesError, match="queries of 'ring' were not recorded"):
        word_attention(narrowed)


def test_attention_among_words_has_to_be_kept(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    recording = make_recording(random_attention(0), make_tokens(SENTENCE), keep=["entropy"])
    with pytest.raises(QuantityMissingError, match="text_to_text"):
        word_attention(recording)


def test_text_to_text_and_full_attention_say_the_same(phrase_recording: Recording) -> None:
    parts = [Recording(phrase_recording.dataset[[name]]) for name in ("full", "text_to_text")]
    left, right = (phrase_structure(part) for part in parts)
    assert np.isfinite(left).all()
    np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


@pytest.fixture(name="phrase_recording", scope="module")
def _phrase_recording(tiny_flux_folder: str) -> Recording:
    from refam_analysis.models import load_model
    from refam_analysis.recording import record

    image = np.random.default_rng(0).integers(0, 256, size=(32, 40, 3), dtype=np.uint8)
    return record(load_model(tiny_flux_folder), image, "the ring on the left", keep=["full", "text_to_text"])
