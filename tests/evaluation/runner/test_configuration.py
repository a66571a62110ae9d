"""What a run is: its entries, and seeds that do not depend on the order."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refam_analysis.evaluation.runner import RunConfiguration, RunConfigurationError
from refam_analysis.evaluation.runner.description import differences

ENTRIES = st.recursive(
    st.none() | st.integers(),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


def test_the_folder_of_the_data_set_is_no_entry() -> None:
    one, other = (RunConfiguration("refcoco", "val", root=root) for root in ("/here", "/there"))
    assert one.entries() == other.entries()


def test_entries_are_what_json_gives_back() -> None:
    configuration = RunConfiguration("refcoco", "val", magnets=("a", "with"), spatial_bias=0.5, limit=3)
    assert json.loads(json.dumps(configuration.entries())) == configuration.entries()


def test_the_seed_depends_on_the_image_and_on_the_runs_seed_alone() -> None:
    first, second = RunConfiguration("scenes", "test", limit=5), RunConfiguration("scenes", "test", magnets=())
    assert first.seed_of("image-1") == second.seed_of("image-1") != first.seed_of("image-2")
    assert RunConfiguration("scenes", "test", seed=1).seed_of("image-1") != first.seed_of("image-1")


@given(st.text(), st.integers(0, 2**40))
def test_seeds_fit_into_any_generator(key: str, seed: int) -> None:
    assert 0 <= RunConfiguration("scenes", "test", seed=seed).seed_of(key) < 2**31


@pytest.mark.parametrize(("entry", "value"), [("limit", 0), ("batch_size", 0)])
def test_what_leaves_nothing_to_do_is_refused(entry: str, value: int) -> None:
    with pytest.raises(RunConfigurationError, match=f"{entry}=0"):
        RunConfiguration("scenes", "test", **{entry: value})


@given(st.dictionaries(st.sampled_from("abc"), ENTRIES))
def test_nothing_differs_from_itself(entries: dict) -> None:
    assert differences(entries, json.loads(json.dumps(entries))) == {}


def test_entries_that_differ_are_named_with_both_values() -> None:
    before = {"model": {"weights": "a", "name": "x"}, "only": 1}
    now = {"model": {"weights": "b", "name": "x"}, "new": {"deep": 2}}
    assert differences(before, now) == {"model.weights": ("a", "b"), "only": (1, None), "new.deep": (None, 2)}
