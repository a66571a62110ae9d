"""All stages in one command: they come in order, go on where they stopped, and leave folders that are opened."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import typer
from diffusers import AutoencoderTiny, FluxTransformer2DModel
from typer.testing import CliRunner

from refam_analysis.models import load_model
from refam_analysis.segmentation.segmenters.embedded import load_embedded_sam, scenes_of_segmenter
from refam_analysis.training.all import SHIPPED, Stage, image_stages, main, run_stages, train_all, video_stages
from refam_analysis.training.checkpoints import save_checkpoint
from refam_analysis.training.data import LESSONS
from refam_analysis.training.dit import CONFIGURATIONS
from refam_analysis.training.plans import PLANS, TAUGHT, Course, Plan
from refam_analysis.weights import embedded_folder

WHOLE = Course("whole", scenes=(3, 3), steps=(1, 2))
TINY = Plan(
    courses=(WHOLE,), autoencoder_steps=1, sizes=(48, 56), batch=2, sam_steps=1,
    video_autoencoder_steps=1, clips=(3, 3), video_steps=(1, 2), frames=7,
)  # fmt: skip


def commands(folder: Path) -> list[str]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [line["command"].split(".training.")[1].split()[0] for line in lines if "command" in line]


def counting(folder: Path, name: str, steps: int, taken: list[str]) -> Stage:
    """A stage that takes one step a call."""

    def run(minutes: float) -> None:
        assert minutes > 0
        taken.append(name)
        save_checkpoint(folder, name, {}, {"step": taken.count(name)})

    return Stage(name, name, steps, run)


def test_a_stage_that_is_not_finished_ends_the_call_and_is_taken_up_by_the_next(tmp_path: Path) -> None:
    taken: list[str] = []
    stages = [counting(tmp_path, "first", 1, taken), counting(tmp_path, "second", 2, taken)]
    assert not run_stages(tmp_path, stages, minutes=5)
    assert taken == ["first", "second"]
    assert run_stages(tmp_path, stages, minutes=5)
    assert taken == ["first", "second", "second"]
    assert run_stages(tmp_path, stages, minutes=5) and len(taken) == 3


def test_without_time_nothing_is_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken: list[str] = []
    assert not run_stages(tmp_path, [counting(tmp_path, "first", 1, taken)], minutes=0)
    assert taken == []
    assert "stopped at step 0 of 1" in capsys.readouterr().out


def test_an_image_model_is_trained_at_both_sizes_and_written(run_folder: Path) -> None:
    assert train_all("plain", minutes=30, plan=TINY, out=run_folder)
    assert commands(run_folder) == ["autoencoder", "dit", "dit", "sam"]
    assert {path.name for path in run_folder.glob("latents-*.npy")} == {"latents-48-3.npy", "latents-56-3.npy"}
    model = load_model(run_folder / SHIPPED / "embedded-dit")
    assert model.scene_style == "plain" and model.family.name == "flux"
    load_embedded_sam(run_folder / SHIPPED / "embedded-sam")


def test_a_rich_model_is_grown_from_a_shallow_one(run_folder: Path) -> None:
    easy = replace(WHOLE, name="easy", lesson="rich-easy", steps=(1, 1), schedule=3)
    courses = (easy, replace(WHOLE, lesson="rich-complete", configuration="tall"))
    assert train_all("rich", minutes=30, plan=replace(TINY, courses=courses, sam_start="embedded"), out=run_folder)
    assert commands(run_folder) == ["autoencoder", "dit", "dit", "sam"] and commands(run_folder / "easy") == ["dit"]
    shallow, deep = (
        load_model(folder) for folder in (run_folder / "easy" / "model", run_folder / SHIPPED / "embedded-rich")
    )
    assert (len(shallow.transformer.transformer_blocks), len(deep.transformer.transformer_blocks)) == (2, 4)
    assert shallow.scene_style == deep.scene_style == "rich"
    begun, plain = (
        load_embedded_sam(folder).state_dict() for folder in (run_folder / SHIPPED / "embedded-rich-sam", None)
    )
    for name, value in begun.items():
        torch.testing.assert_close(value, plain[name], atol=0.01, rtol=1e-2)
    assert scenes_of_segmenter(run_folder / SHIPPED / "embedded-rich-sam") == "rich"
    # A copy keeps the inner weights of its block, up to two steps and half precision; its outputs began at zero.
    (block, copy), origin = deep.transformer.transformer_blocks[:2], shallow.transformer.transformer_blocks[0]
    torch.testing.assert_close(block.attn.to_q.weight, origin.attn.to_q.weight, atol=0.02, rtol=0)
    assert copy.attn.to_out[0].weight.abs().max() < 1e-3 < origin.attn.to_out[0].weight.abs().max()


@pytest.mark.parametrize("plan", [*PLANS.values(), TAUGHT])
def test_plans_end_in_twelve_blocks_that_their_courses_can_grow_to(plan: Plan) -> None:
    sizes = [
        (chosen.double_blocks, chosen.single_blocks)
        for chosen in (CONFIGURATIONS[course.configuration] for course in plan.courses)
    ]
    assert sum(sizes[-1]) >= 12
    for before, after in pairwise(sizes):
        assert all(wanted % there == 0 for wanted, there in zip(after, before, strict=True))
    assert {course.lesson for course in plan.courses} <= {None, *LESSONS}


def test_courses_follow_each_other_and_only_the_last_is_left_where_a_training_begins_with_a_model(
    tmp_path: Path,
) -> None:
    folders = [stage.folder for stage in image_stages(tmp_path, "plain", PLANS["plain"])]
    assert folders == ["", "six", "complete", "", "", ""]
    begun = image_stages(tmp_path, "rich", TAUGHT, start=embedded_folder("embedded-rich"))
    assert [(stage.checkpoint, stage.folder) for stage in begun] == [("dit", ""), ("sam", "")]


def test_only_rich_pictures_have_lessons(tmp_path: Path) -> None:
    for options in (["--style", "plain"], ["--video"]):
        app = typer.Typer()
        app.command()(main)
        told = CliRunner().invoke(app, ["--taught", "--out", str(tmp_path), *options])
        assert told.exit_code == 2 and "only the image model of rich scenes has lessons" in " ".join(
            told.output.split()
        )
    assert list(tmp_path.iterdir()) == []


def test_a_training_begins_with_an_exported_model_and_keeps_its_autoencoder(six_blocks: Path, tmp_path: Path) -> None:
    assert train_all("plain", minutes=30, plan=TINY, out=tmp_path, start=six_blocks)
    assert commands(tmp_path) == ["dit", "dit", "sam"]
    written = tmp_path / SHIPPED / "embedded-dit"
    before, after = (AutoencoderTiny.from_pretrained(folder / "vae") for folder in (six_blocks, written))
    assert all(map(torch.equal, before.parameters(), after.parameters()))
    before, after = (FluxTransformer2DModel.from_pretrained(folder / "transformer") for folder in (six_blocks, written))
    for old, new in zip(before.parameters(), after.parameters(), strict=True):
        torch.testing.assert_close(old, new, atol=0.02, rtol=0)  # two steps of at most 1e-5, and half precision


def test_a_video_model_is_trained_and_written(tmp_path: Path) -> None:
    assert train_all("plain", minutes=30, plan=TINY, out=tmp_path, clips=True)
    assert commands(tmp_path) == ["video_autoencoder", "video", "video"]
    model = load_model(tmp_path / SHIPPED / "embedded-video")
    assert (model.family.name, model.defaults.frames, model.default_size) == ("mochi", 7, (48, 48))
    shipped, again = tmp_path / SHIPPED / "embedded-video", tmp_path / "again"
    assert train_all("plain", minutes=30, plan=TINY, out=again, clips=True, start=shipped)
    assert commands(again) == ["video", "video"]
    after = load_model(again / SHIPPED / "embedded-video")
    for old, new in zip(model.transformer.parameters(), after.transformer.parameters(), strict=True):
        torch.testing.assert_close(old, new, atol=1e-3, rtol=0)  # two steps of at most 1e-5, and half precision


def test_schedules_of_a_rich_model_follow_each_other(tmp_path: Path) -> None:
    stages = image_stages(tmp_path, "rich", PLANS["rich"])
    assert [stage.checkpoint for stage in stages] == ["autoencoder", "dit", "dit", "sam"]
    assert stages[1].steps < stages[2].steps
    stages = video_stages(tmp_path, "rich", PLANS["rich"])
    assert [stage.checkpoint for stage in stages] == ["video_autoencoder", "video", "video"]
    assert stages[1].steps < stages[2].steps
