"""What a page needs to make prompts and tokens itself: the tokenizers' tables and the package's word lists, as JSON.

The algorithms are in ``static/engine_tokenizer.js`` and ``static/engine_prompt.js``. A tokenizer that works in another
way than those are written for is refused, rather than read wrongly.
"""

from __future__ import annotations

import json
from typing import Any

from transformers import PreTrainedTokenizerBase

from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import STOP_WORDS, mentions, ruled
from refam_analysis.prompts.lexicon import forms, lexicon
from refam_analysis.prompts.magnets import COLOUR_WORDS
from refam_analysis.prompts.places import (
    COUNTED_SPREAD,
    DEPTH_SPREAD,
    DEPTHS,
    EXTREME_SPREAD,
    MIDDLE_SPREAD,
    SIDE_SPREAD,
    SIDES,
    SUPERLATIVES,
)
from refam_analysis.widgets.browser.parts import BrowserModelError

_CLIP_PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_CLIP = {
    "normalizer": [
        {"type": "NFC"},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Lowercase"},
    ],
    "pre_tokenizer": [
        {"type": "Split", "pattern": {"Regex": _CLIP_PATTERN}, "behavior": "Removed", "invert": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ],
    "model": {
        "type": "BPE", "dropout": None, "continuing_subword_prefix": "", "end_of_word_suffix": "</w>",
        "byte_fallback": False, "ignore_merges": False,
    },
}  # fmt: skip
_T5 = {
    "normalizer": None,
    "pre_tokenizer": [
        {"type": "WhitespaceSplit"},
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    ],
    "model": {"type": "Unigram", "byte_fallback": False},
}
"""What the two scripts are written for, as the tokenizers describe themselves."""


def word_tables(model: DiffusionModel) -> dict[str, Any]:
    """Both tokenizers and the word lists.

    Args:
        model: a FLUX.

    Returns:
        ``clip`` and ``t5``, as ``createClipTokenizer`` and ``createT5Tokenizer`` want them, ``lists`` of words,
        :func:`place_tables` and :func:`phrase_tables`.

    Raises:
        BrowserModelError: a tokenizer works in another way than the embedded model's.
    """
    clip, t5 = model.pipeline.tokenizer, model.pipeline.tokenizer_2
    byte_pairs, unigrams = _checked(clip, _CLIP), _checked(t5, _T5)
    ranked = sorted(byte_pairs["vocab"].items(), key=lambda entry: entry[1])
    return {
        "clip": {
            "vocabulary": [piece for piece, _ in ranked],
            "merges": [tuple(pair) for pair in byte_pairs["merges"]],
            "unknown": clip.unk_token_id,
            "begin": clip.bos_token_id,
            "end": clip.eos_token_id,
            **_common(clip, model.pipeline.tokenizer_max_length),
        },
        "t5": {
            "vocabulary": [tuple(entry) for entry in unigrams["vocab"]],
            "unknown": unigrams["unk_id"],
            "end": t5.eos_token_id,
            **_common(t5, model.text_length),
        },
        "lists": {"stop": sorted(STOP_WORDS), "colours": sorted(COLOUR_WORDS)},
        "places": place_tables(),
        "phrases": phrase_tables(),
    }


def place_tables() -> dict[str, Any]:
    """The patterns, lists and numbers by which words of place are found and understood, for ``engine_places.js``.

    >>> place_tables()["sides"]["left"]
    ('x', 0.0)
    """
    return {
        "blots": [pattern.replace("(?P<", "(?<") for pattern in mentions.BLOTS],
        "patterns": [pattern.replace("(?P<", "(?<") for pattern in mentions.PATTERNS],
        "ranks": mentions.RANKS,
        "wholes": sorted(mentions.WHOLES),
        "middles": sorted(mentions.MIDDLES),
        "group": sorted(lexicon("group")),
        "sides": SIDES,
        "superlatives": sorted(SUPERLATIVES),
        "depths": DEPTHS,
        "spreads": {
            "side": SIDE_SPREAD,
            "extreme": EXTREME_SPREAD,
            "middle": MIDDLE_SPREAD,
            "counted": COUNTED_SPREAD,
            "depth": DEPTH_SPREAD,
        },
    }


def phrase_tables() -> dict[str, Any]:
    """The word lists by which rules find a noun phrase, for ``engine_phrase.js``.

    >>> phrase_tables()["words"]["or"]
    'and'
    """
    verbs = ("action_verbs", "motion_verbs")
    named = ("place_words", "place_parts", "picture", "viewer", "particles", "clothing")
    return {
        "words": ruled.WORDS,
        "sections": [(tag, sorted(lexicon(section))) for section, tag in ruled.SECTIONS.items()],
        "lists": {
            "acts": sorted(form for name in verbs for form in forms(name) - lexicon(name)),
            "colours": sorted(COLOUR_WORDS),
            **{name: sorted(lexicon(name)) for name in named},
        },
    }


def _common(tokenizer: PreTrainedTokenizerBase, length: int) -> dict[str, Any]:
    special = tokenizer.added_tokens_decoder.items()
    return {
        "special": [{"text": token.content, "id": number} for number, token in sorted(special)],
        "padding": tokenizer.pad_token_id,
        "length": length,
    }


def _checked(tokenizer: PreTrainedTokenizerBase, known: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer's tables, if it works as the known one does."""
    description = json.loads(tokenizer.backend_tokenizer.to_str())
    found = {
        "normalizer": (description["normalizer"] or {}).get("normalizers"),
        "pre_tokenizer": (description["pre_tokenizer"] or {}).get("pretokenizers"),
        "model": {name: description["model"].get(name) for name in known["model"]},
    }
    if different := sorted(part for part in known if found[part] != known[part]):
        raise BrowserModelError(
            f"The {', '.join(different)} of {type(tokenizer).__name__} is {[found[part] for part in different]}, and "
            f"the page's script is written for {[known[part] for part in different]}. Write it for both."
        )
    if any(token.lstrip or token.rstrip or token.normalized for token in tokenizer.added_tokens_decoder.values()):
        raise BrowserModelError("The page's script takes special tokens as they are: no stripping, no normalisation.")
    tables: dict[str, Any] = description["model"]
    return tables
