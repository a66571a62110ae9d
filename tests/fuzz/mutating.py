"""What fuzz tests change, and how much of it: bytes of files, values in JSON, and texts that nobody expects.

``REFAM_FUZZ=20 pytest tests/fuzz --hypothesis-seed=1`` runs twenty times as many examples, with other seeds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

TIMES = int(os.environ.get("REFAM_FUZZ", "1"))


def examples(number: int, *, shrink: bool = True) -> Callable[..., Any]:
    """Run a test on so many examples, or on :data:`TIMES` as many; slow ones are not made smaller where they fail."""
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]
    phases = [Phase.explicit, Phase.generate, *([Phase.shrink] if shrink else [])]
    return settings(max_examples=number * TIMES, suppress_health_check=quiet, phases=phases)


texts = st.text(
    st.characters(codec="utf-8") | st.characters(categories=("Cs", "Mn", "Cf", "Co", "Nl", "No")), max_size=12
)
"""Any characters, halves of characters too."""

deep: Any = []
for _ in range(400):
    deep = [deep]
"""Deeper than anything that a release holds."""

junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 300),
    st.sampled_from([10**30, -(2**63), 1e308, float("inf"), float("nan"), 2**31]),
    texts,
    st.sampled_from(["", ".", "..", "../..", "/", "a\0b", "x" * 300, "\ud800", "9" * 5000, "²", "~nobody"]),
    st.lists(st.integers(-1, 3) | st.text(max_size=2), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.just(deep),
)
"""What stands in the place of a value."""

_BYTES = st.binary(min_size=0, max_size=8) | st.sampled_from([b"\xff" * 4, b"\0" * 8, b"\x7f\xff\xff\xff"])
changes = st.lists(
    st.tuples(st.sampled_from(["replace", "insert", "delete", "cut"]), st.floats(0, 1, exclude_max=True), _BYTES),
    min_size=1,
    max_size=4,
)
"""How the bytes of a file are changed: what is done, at which share of its length, with which bytes."""


def mutate(data: bytes, changed: list[tuple[str, float, bytes]]) -> bytes:
    """The bytes with the changes made one after the other."""
    for what, share, new in changed:
        place = int(share * len(data))
        if what == "cut":
            data = data[:place]
        else:
            behind = place if what == "insert" else place + max(len(new), 1)
            data = data[:place] + (b"" if what == "delete" else new) + data[behind:]
    return data


def put(data: Any, place: int, value: Any) -> Any:
    """A copy of nested lists and dictionaries in which one value, chosen by number, is another one."""
    changed = deepcopy(data)
    places = list(_places(changed))
    holder, key = places[place % len(places)]
    holder[key] = value
    return changed


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in entries:
        yield data, key
        yield from _places(value)
