"""Checkpoints: of whole steps, with everything that the next step follows from, and refused when damaged."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from refam_analysis.files import DamagedFileError
from refam_analysis.training import checkpoints
from refam_analysis.training.checkpoints import (
    append_log,
    load_checkpoint,
    restore_training,
    save_checkpoint,
    steps_until,
    training_tensors,
)

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number.name)
def test_a_training_that_is_asked_to_end_ends_after_its_step(number: signal.Signals) -> None:
    steps = 0
    with steps_until(5) as watch:
        while not watch.over:
            steps += 1
            signal.raise_signal(number)
            steps += 1
    assert steps == 2 and watch.stopped


def test_a_second_ctrl_c_ends_it_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), steps_until(5):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_signals_do_afterwards_what_they_did_before() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with steps_until(5):
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_a_training_ends_when_its_time_is_over() -> None:
    with steps_until(0) as watch:
        assert watch.over and not watch.stopped


def test_a_checkpoint_is_due_once_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with steps_until(5) as watch:
        assert not watch.is_due()
        monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0.0)
        assert watch.is_due() and watch.is_due()


def learner() -> tuple[nn.Linear, torch.optim.AdamW]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def step(model: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
    """One whose direction depends on the optimiser's moments and on PyTorch's random numbers."""
    optimizer.zero_grad()
    model(torch.randn(4, 3)).square().sum().backward()
    optimizer.step()


def weights(model: nn.Linear) -> list[Tensor]:
    return [value.clone() for value in model.state_dict().values()]


def test_a_training_that_goes_on_takes_the_steps_that_it_would_have_taken(tmp_path: Path) -> None:
    model, optimizer = learner()
    step(model, optimizer)
    save_checkpoint(tmp_path, "toy", training_tensors(model, None, optimizer), {"step": 1})
    step(model, optimizer)
    expected = weights(model)
    model, optimizer = learner()
    found = load_checkpoint(tmp_path, "toy")
    assert found is not None and found[1] == {"step": 1}
    restore_training(found[0], model, None, optimizer)
    step(model, optimizer)
    assert all(map(torch.equal, weights(model), expected))


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, "toy") is None
    model, optimizer = learner()
    save_checkpoint(tmp_path, "toy", training_tensors(model, None, optimizer), {"step": 1})
    path = tmp_path / "toy.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DamagedFileError, match=r"toy\.safetensors' is damaged"):
        load_checkpoint(tmp_path, "toy")


def test_a_line_of_the_log_that_was_cut_is_taken_out(tmp_path: Path) -> None:
    append_log(tmp_path, {"step": 1})
    path = tmp_path / "log.jsonl"
    path.write_bytes(path.read_bytes() + b'{"ste')
    append_log(tmp_path, {"step": 2})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"step": 1}, {"step": 2}]
