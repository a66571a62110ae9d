"""The benchmark compares like with like: every way of taking attention gives the same numbers and the same output."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

from benchmarks.measure import interleaved, ratios
from benchmarks.package import JointSubject, make_joint_subject, ours, theirs
from benchmarks.variants import MAPS, SUMMARIES, Geometry, Subject, by_hand, make_subject, recorded


@pytest.fixture(scope="module")
def subject() -> Subject:
    return make_subject(Geometry(double=1, single=1, heads=2, text=70, side=18), device="cpu", dtype=torch.float32)


@pytest.mark.parametrize("chunk", [None, 256], ids=["whole", "chunks"])
def test_maps_taken_by_hand_are_ours(subject: Subject, chunk: int | None) -> None:
    ours = recorded(subject, MAPS).recording()
    for block, taken in enumerate(by_hand(subject, "maps", chunk)):
        for name, side in (("text_to_image", "text"), ("image_to_text", "image")):
            expected = torch.from_numpy(ours[name].isel(step=0, branch=0, block=block).values)
            torch.testing.assert_close(taken[side][0], expected.reshape(taken[side][0].shape), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("chunk", [None, 256], ids=["whole", "chunks"])
def test_summaries_taken_by_hand_are_ours(subject: Subject, chunk: int | None) -> None:
    ours = recorded(subject, SUMMARIES).recording()
    layout, tokens = subject.geometry.layout, subject.geometry.tokens
    for block, taken in enumerate(by_hand(subject, "summaries", chunk)):
        found = {name: torch.from_numpy(ours[name].isel(step=0, branch=0, block=block).values) for name in SUMMARIES}
        torch.testing.assert_close(taken["entropy"][0], found["entropy"], atol=1e-4, rtol=1e-4)
        for side, rows in (("text", layout.text_length), ("image", layout.image_length)):
            received, evenness = (taken[f"{what}_from_{side}"][0] for what in ("received", "uniformity"))
            torch.testing.assert_close(received * tokens / rows, found[f"received_from_{side}"], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(evenness / rows, found[f"uniformity_from_{side}"], atol=1e-5, rtol=1e-3)


def test_ratios_are_taken_round_by_round() -> None:
    slow = pd.DataFrame(
        {"name": ["a", "b"] * 3, "round": [0, 0, 1, 1, 2, 2], "seconds": [1.0, 2.0, 9.0, 18.0, 2.0, 4.0]}
    )
    table = ratios(slow, against="a").set_index("name")
    assert table.loc["b", ["ratio", "low", "high", "rounds"]].tolist() == [2.0, 2.0, 2.0, 3]


def test_every_round_runs_everything_once() -> None:
    ran: list[str] = []
    table = interleaved({name: lambda n=name: ran.append(n) for name in "abc"}, rounds=4, warm_up=1)
    assert len(ran) == 15 and all(sorted(ran[i : i + 3]) == ["a", "b", "c"] for i in range(0, 15, 3))
    assert table.groupby("name")["round"].apply(list).tolist() == [[0, 1, 2, 3]] * 3


@pytest.fixture(scope="module")
def joint_subject() -> JointSubject:
    geometry = Geometry(double=1, single=1, heads=2, text=70, side=18)
    return make_joint_subject(geometry, device="cpu", dtype=torch.float32)


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_maps_of_the_package_are_ours(joint_subject: JointSubject, mode: str) -> None:
    recording = ours(joint_subject).recording()
    maps = iter(theirs(joint_subject, mode))
    for block in range(2):
        for name in MAPS:
            expected, found = torch.from_numpy(recording[name][0, 0, block].values), next(maps)[0]
            torch.testing.assert_close(found, expected.reshape(found.shape), atol=1e-5, rtol=1e-4)
