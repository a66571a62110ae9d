"""Pickles of plain data are read; whatever a pickle could run is refused, and nothing runs."""

from __future__ import annotations

import datetime
import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from pickletools import code2op
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.small_datasets import python2_pickle, refcoco_parts

from refam_analysis.evaluation.datasets.pickles import _STEPS, ForbiddenPickleError, read_plain_pickle
from refam_analysis.evaluation.datasets.problems import DatasetFileError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=5)
        | st.tuples(inner)
        | st.tuples(inner, inner)
        | st.lists(inner, max_size=5).map(tuple)
    ),
    max_leaves=20,
)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(value=plain)
@settings(max_examples=60)
def test_plain_data_come_back(value: Any, protocol: int) -> None:
    assert read_plain_pickle(pickle.dumps(value, protocol), "refs.p") == value


@given(plain)
def test_plain_data_of_python_2_come_back(value: Any) -> None:
    assert read_plain_pickle(python2_pickle(value), "refs.p") == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_list_of_references_comes_back(protocol: int) -> None:
    refs, _, _ = refcoco_parts()
    assert read_plain_pickle(pickle.dumps(refs, protocol), "refs.p") == refs


def test_what_is_there_twice_is_there_once_in_memory() -> None:
    shared = ["val"]
    first, second = read_plain_pickle(pickle.dumps([shared, shared]), "refs.p")
    assert first is second


@pytest.mark.parametrize("value", [0, -1, 255, 256, 65_535, 65_536, 2**31, -(2**31), 2**63, -(2**200)], ids=str)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_whole_numbers_come_back(value: int, protocol: int) -> None:
    assert read_plain_pickle(pickle.dumps(value, protocol), "refs.p") == value


def test_byte_strings_of_python_2_become_text() -> None:
    utf8, latin = "café".encode(), "café".encode("latin-1")
    data = b"(lS'caf\\xe9'\naU" + bytes([len(utf8)]) + utf8 + b"aT" + struct.pack("<I", len(latin)) + latin + b"a."
    assert read_plain_pickle(data, "refs.p") == ["café"] * 3


# What could run


class Calls:
    """Pickles to a call of something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


class Plain:
    def __init__(self) -> None:
        self.a = 1


class WithState:
    def __getstate__(self) -> dict[str, int]:
        return {"a": 1}

    def __setstate__(self, state: dict[str, int]) -> None:
        raise AssertionError("its state was set")


BUILT = {
    "os.system": Calls(os.system, "echo ran"),
    "builtins.eval": Calls(eval, "1 + 1"),
    "getattr": Calls(getattr, "text", "upper"),
    "nested getattr": Calls(getattr, Calls(getattr, "text", "upper"), "__self__"),
    "an object": Plain(),
    "an object with state": WithState(),
    "an ordered dictionary": OrderedDict(a=1),
    "an array": np.arange(3),
    "a date": datetime.date(2026, 1, 1),
    "a path": Path("refs.p"),
    "a complex number": 1j,
    "a set": {1, 2},
    "a frozen set": frozenset((1, 2)),
    "a class": Plain,
    "a function": os.getcwd,
    "an exception": ValueError("text"),
    "deep inside": [{"ref_id": 1, "sentences": [{"sent": Calls(os.getcwd)}]}],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", BUILT.values(), ids=BUILT.keys())
def test_what_is_more_than_plain_data_is_refused(value: Any, protocol: int) -> None:
    with pytest.raises(ForbiddenPickleError, match="the pickle asks for"):
        read_plain_pickle(pickle.dumps(value, protocol), "refs(unc).p")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_live_payload_runs_in_pickle_and_not_here(protocol: int, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    payload = pickle.dumps([{"ref_id": Calls(os.mkdir, str(ran))}], protocol)
    with pytest.raises(ForbiddenPickleError):
        read_plain_pickle(payload, "refs.p")
    assert not ran.exists()
    pickle.loads(payload)
    assert ran.exists()


BY_HAND = {
    "GLOBAL": b"cos\nsystem\n(S'echo ran'\ntR.",
    "GLOBAL alone": b"cbuiltins\neval\n.",
    "INST": b"(S'echo ran'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'echo ran'\no.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x08echo ran\x85R.",
    "STACK_GLOBAL of a path": b"\x80\x04\x8c\x02os\x8c\x0bpath.exists\x93\x8c\x01/\x85R.",
    "REDUCE of plain data": b"S'text'\n)R.",
    "NEWOBJ": b"\x80\x02cbuiltins\nlist\n)\x81.",
    "NEWOBJ of plain data": b"\x80\x02S'text'\n)\x81.",
    "NEWOBJ_EX": b"\x80\x04cbuiltins\nlist\n)}\x92.",
    "BUILD": b"}}S'a'\nI1\nsb.",
    "BUILD of a list": b"]}b.",
    "PERSID": b"Pfile:///etc/passwd\n.",
    "BINPERSID": b"S'file:///etc/passwd'\nQ.",
    "EXT1": b"\x80\x02\x82\x01.",
    "EXT2": b"\x80\x02\x83\x01\x00.",
    "EXT4": b"\x80\x02\x84\x01\x00\x00\x00.",
    "NEXT_BUFFER": b"\x80\x05\x97.",
    "READONLY_BUFFER": b"\x80\x05]\x98.",
    "BYTEARRAY8": b"\x80\x05\x96\x01\x00\x00\x00\x00\x00\x00\x00a.",
    "EMPTY_SET": b"\x80\x04\x8f.",
    "after plain data": pickle.dumps([1, 2])[:-1] + b"cos\nsystem\n.",
}


@pytest.mark.parametrize("data", BY_HAND.values(), ids=BY_HAND.keys())
def test_every_instruction_that_builds_is_refused(data: bytes) -> None:
    with pytest.raises(ForbiddenPickleError) as error:
        read_plain_pickle(data, "refs(unc).p")
    assert "refs(unc).p" in str(error.value) and "at byte" in str(error.value)


def test_instructions_that_are_read_are_plain_ones_only() -> None:
    """By the names in pickletools: nothing that imports, calls, builds, or refers outside has slipped in."""
    names = {code2op[code.decode("latin-1")].name for code in _STEPS}
    building = {"GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2",
                "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER", "BYTEARRAY8"}  # fmt: skip
    assert building <= {op.name for op in code2op.values()}
    assert names & building == set()


# What could fill the memory, or is broken

BOMBS = {
    "memo entry": b"\x80\x02Nr\xff\xff\xff\xff.",
    "long text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"a.",
    "text of four gigabytes": b"\x80\x02X\xff\xff\xff\xffa.",
    "byte string of four gigabytes": b"T\xff\xff\xff\xffa.",
    "number of two gigabytes": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "number of many digits": b"L" + b"9" * 10_000_000 + b"L\n.",
    "number of many bytes": b"\x80\x02\x8b" + struct.pack("<I", 5_000_000) + b"\x01" * 5_000_000 + b".",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.",
    "deep lists": b"(" * 50_000 + b"l" * 50_000 + b".",
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS.keys())
def test_claims_of_size_take_no_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        read_plain_pickle(data, "refs.p")
    except DatasetFileError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 100e6


BROKEN = {
    "nothing": b"",
    "no stop": b"]",
    "an empty stack": b".",
    "no mark": b"t.",
    "append to nothing": b"Na.",
    "append to a number": b"I1\nNa.",
    "item of a list": b"]NNs.",
    "half a pair": b"(Nd.",
    "half a pair, later": b"}(Nu.",
    "a list as key": b"(]Nd.",
    "memo not there": b"g1\n.",
    "a string without quotes": b"Stext\n.",
    "a word for a number": b"Ione\n.",
    "not UTF-8": b"\x80\x04\x8c\x01\xff.",
    "a page of the web": b"<html><body>404</body></html>",
    "the magic of a zip": b"PK\x03\x04",
    "reaching below a mark": b"N(a.",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_pickle_is_said_so(data: bytes) -> None:
    with pytest.raises(DatasetFileError, match=r"refs\(unc\)\.p"):
        read_plain_pickle(data, "refs(unc).p")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(cut=st.floats(0, 1, exclude_max=True))
@settings(max_examples=40)
def test_a_cut_pickle_is_said_so(protocol: int, cut: float) -> None:
    data = pickle.dumps(refcoco_parts()[0], protocol)
    with pytest.raises(DatasetFileError, match="cut"):
        read_plain_pickle(data[: int(len(data) * cut)], "refs.p")


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_give_plain_data_or_our_error(data: bytes) -> None:
    try:
        value = read_plain_pickle(data, "refs.p")
    except DatasetFileError:
        return
    assert type(value) in (dict, list, tuple, str, int, float, bool, type(None))


@given(st.integers(0, 10_000), st.integers(0, 255))
@settings(max_examples=300)
def test_a_changed_byte_gives_plain_data_or_our_error(position: int, value: int) -> None:
    data = bytearray(pickle.dumps(refcoco_parts()[0], 2))
    data[position % len(data)] = value
    try:
        read_plain_pickle(bytes(data), "refs.p")
    except DatasetFileError as error:
        assert error.problem.file == "refs.p"
