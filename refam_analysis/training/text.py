"""The tokenizers and text encoders of the embedded model: FLUX's own classes, small.

Every word of the scenes is one token, as are the English function words and the names of colours; everything else falls
into pieces and, at the worst, into letters. The pieces were learnt from the prose that comes with Python itself (its
language reference), which is at hand on every machine. Words in capitals have tokens of their own that share the
embedding of the small ones: the T5 tokenizer class does not keep a lower-casing step when it is loaded again.

A pretrained encoder to learn the meaning of other words from was looked at and left out. Of the 52 synonyms of the rich
scenes' words (:mod:`refam_analysis.scenes.rich_vocabulary`), all-MiniLM-L6-v2, by the states of any of its layers or by
its sentence embedding, alone or within a phrase, puts 0.19 to 0.44 of the 16 colours nearest to their own colour among
eight (chance 0.13; crimson comes out nearest to purple or pink) and 0.36 to 0.68 of the 22 shapes nearest to their own
shape among twelve (chance 0.08). A student could not know more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from pydoc_data.topics import topics

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from refam_analysis.files import written_folder
from refam_analysis.prompts.magnets import COLOUR_WORDS
from refam_analysis.prompts.stop_words import STOP_WORDS
from refam_analysis.scenes import BACKGROUNDS, COLOURS, HELD_OUT_SYNONYMS, SHAPES, SIZES, caption_words
from refam_analysis.scenes.sampling import Style

TEXT_LENGTH = 32
_PLACE_WORDS = "left right top bottom middle corner above below largest smallest leftmost rightmost topmost lowest"
_OTHER_WORDS = "one next background picture image see on in at of to"
_LETTERS = [chr(code) for code in range(33, 127)] + [chr(code) for code in range(0xC0, 0x180)]
_PIECES = 1200


def scene_words(style: Style = "plain") -> list[str]:
    """Every content word that a caption or an expression can hold, sorted; of rich scenes function words too."""
    if style == "rich":
        return [word for word in caption_words() if word.isalpha()]
    words = {*COLOURS, *SHAPES, *SIZES, *BACKGROUNDS, *_PLACE_WORDS.split(), *_OTHER_WORDS.split()}
    return sorted(words)


def empty_words(style: Style = "plain") -> list[str]:
    """Words that say nothing of any scene: function words, other colours than the scenes', frequent English words.

    For rich scenes no word that has a meaning there, nor a synonym that is held out, is among them.
    """
    meant = set(scene_words(style)) | _held_out(style)
    if style == "plain":
        return [*sorted(STOP_WORDS), *sorted(COLOUR_WORDS - meant), *common_words()[:1500]]
    others = [word for word in common_words()[:1500] if word not in meant]
    return [*sorted(STOP_WORDS), *sorted(COLOUR_WORDS - meant), *others]


def common_words() -> list[str]:
    """English words beyond the scenes', most frequent first: the language reference's, of three letters and more."""
    counts: dict[str, int] = {}
    for word in _prose():
        counts[word] = counts.get(word, 0) + 1
    known = set(scene_words())
    return [w for w, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n > 5 and w not in known]


def _prose() -> Iterator[str]:
    for text in topics.values():
        yield from re.findall(r"[a-z]{3,}", text.lower())


def make_t5_tokenizer(style: Style = "plain", *, also: Sequence[str] = ()) -> T5Tokenizer:
    """A unigram tokenizer over scene words, the words of ``also``, function words, pieces and letters.

    Synonyms that are held out are no words of their own: they fall into pieces, as any other word beyond the scenes.
    """
    known = [*scene_words(style), *also, *sorted((STOP_WORDS | COLOUR_WORDS) - _held_out(style))]
    pieces = Tokenizer(models.Unigram())
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=_PIECES,
        unk_token="<unk>",  # noqa: S106 (a token of text)
        special_tokens=["<unk>"],
        show_progress=False,
    )
    pieces.train_from_iterator(_prose(), trainer)
    left_out = {"<unk>", *(f"▁{word}" for word in _held_out(style))}
    learnt = [(p, s) for p, s in json.loads(pieces.to_str())["model"]["vocab"] if p not in left_out]
    whole = [f"▁{form}" for word in known for form in _forms(word)]
    marks = [f"▁{mark}" for mark in ".,;:!?"]
    vocabulary: dict[str, float] = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0, "▁": -4.0}
    for piece in [*whole, *marks]:
        vocabulary.setdefault(piece, -3.0)
    for piece, score in learnt:
        vocabulary.setdefault(piece, score)
    for letter in _LETTERS:
        vocabulary.setdefault(letter, -14.0)
    return T5Tokenizer(vocab=list(vocabulary.items()), extra_ids=0, model_max_length=TEXT_LENGTH)


def _held_out(style: Style) -> frozenset[str]:
    return frozenset(HELD_OUT_SYNONYMS.values()) if style == "rich" else frozenset()


def _forms(word: str) -> list[str]:
    return list(dict.fromkeys([word, word.capitalize(), word.upper()]))


def make_clip_tokenizer() -> CLIPTokenizer:
    """A byte-pair tokenizer that lower-cases, over the same words; every byte is in its vocabulary."""
    bytewise = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(bytewise) + 900, end_of_word_suffix="</w>", initial_alphabet=bytewise, show_progress=False
    )
    words = [*scene_words(), *sorted(STOP_WORDS | COLOUR_WORDS)]
    trained.train_from_iterator([*(" ".join(words) for _ in range(200)), *_prose()], trainer)
    model = json.loads(trained.to_str())["model"]
    pieces = ["<|startoftext|>", "<|endoftext|>", *bytewise, *(f"{symbol}</w>" for symbol in bytewise), *model["vocab"]]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    merges = [tuple(merge) for merge in model["merges"]]
    return CLIPTokenizer(vocabulary, merges=merges, model_max_length=TEXT_LENGTH)


def make_t5_encoder(tokenizer: T5Tokenizer, *, width: int = 64, layers: int = 2) -> T5EncoderModel:
    """The untrained encoder of token states."""
    config = T5Config(
        vocab_size=len(tokenizer), d_model=width, d_kv=width // 4, d_ff=3 * width, num_layers=layers, num_heads=4,
        feed_forward_proj="gated-gelu", dropout_rate=0.0,
    )  # fmt: skip
    return T5EncoderModel(config)


def make_clip_encoder(tokenizer: CLIPTokenizer, *, width: int = 32) -> CLIPTextModel:
    """The encoder of the pooled vector, which is silent: its last normalisation gives zeros, and is not trained.

    FLUX modulates every block by a vector that CLIP makes of the whole prompt. A first embedded model that was trained
    with it told its pictures' colours and shapes through that vector, and its image patches attended to words hardly
    more than to padding. Without it, all that the text says must pass through attention, which is what is studied here.
    """
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=TEXT_LENGTH, projection_dim=width,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    encoder = CLIPTextModel(config).requires_grad_(False)
    for name, weights in encoder.named_parameters():
        if "final_layer_norm" in name:
            weights.zero_()
    return encoder


def load_tokenizers(folder: Path, style: Style = "plain") -> tuple[T5Tokenizer, CLIPTokenizer]:
    """Both tokenizers from a working folder; made for scenes of a style, and saved there, the first time."""
    for name, make in (("tokenizer_2", lambda: make_t5_tokenizer(style)), ("tokenizer", make_clip_tokenizer)):
        if not (folder / name).exists():
            with written_folder(folder / name) as place:
                make().save_pretrained(place)
    return T5Tokenizer.from_pretrained(folder / "tokenizer_2"), CLIPTokenizer.from_pretrained(folder / "tokenizer")


@torch.no_grad()
def share_case(encoder: T5EncoderModel, tokenizer: T5Tokenizer) -> None:
    """Give every token that holds a capital letter the embedding of its lower-case form, where there is one."""
    vocabulary = tokenizer.get_vocab()
    weights = encoder.get_input_embeddings().weight
    for piece, index in vocabulary.items():
        if (small := vocabulary.get(piece.lower())) is not None and small != index:
            weights[index] = weights[small]
