"""Whatever happens to a process or to its files, the data is in the end what it is when nothing happens."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from faults.kinds import KINDS, Moment, Watch
from faults.table import PLACES, TESTED, Fault

if sys.platform != "linux":
    pytest.skip("faults are those of Linux: fork, signals, tmpfs, limits", allow_module_level=True)


@pytest.fixture(scope="module")
def carried_out(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    """Of the faults whose tests were chosen, what became of them."""
    from faults.asking import outcomes

    calls = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = [call.params["fault"] for call in calls if call is not None and "fault" in call.params]
    return {f"{one['place']}-{one['kind']}": one for one in outcomes(chosen)}


@pytest.mark.parametrize("fault", TESTED, ids=str)
def test_what_is_disturbed_comes_to_the_same(fault: Fault, carried_out: dict[str, dict[str, Any]]) -> None:
    outcome = carried_out[str(fault)]
    if not outcome["applies"]:
        pytest.skip(outcome["why_not"])
    assert outcome["sound"], json.dumps(outcome, indent=1)


def test_at_least_a_hundred_faults_are_tested() -> None:
    assert len(set(TESTED)) >= 100
    assert {fault.place for fault in TESTED} == set(PLACES) and {fault.kind for fault in TESTED} == set(KINDS)


@pytest.mark.parametrize(
    ("share", "number"), [(0.0, 1), (0.3, 4), (0.5, 6), (1.0, 11)], ids=["first", "early", "middle", "last"]
)
def test_a_moment_is_a_share_of_the_events(share: float, number: int) -> None:
    assert Moment("open", share).number({"open": 11}) == number
    assert Moment("open", share).number({"open": 0}) == 0


def test_the_watch_counts_what_happens_below_its_folder(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "inside")
    for event, arguments in [
        ("open", (str(tmp_path / "inside" / "a"), "w", os.O_WRONLY)),
        ("open", (str(tmp_path / "inside" / "a"), "r", os.O_RDONLY)),
        ("open", (str(tmp_path / "outside"), "w", os.O_WRONLY)),
        ("os.rename", (str(tmp_path / "inside" / "a"), str(tmp_path / "inside" / "b"), -1, -1)),
        ("os.remove", (str(tmp_path / "inside" / "b"), -1)),
    ]:
        watch._hook(event, arguments)
    assert watch.counts == {"open": 1, "rename": 1, "remove": 1, "flush": 0, "any": 3}
