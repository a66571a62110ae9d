"""The probe without a kernel: its answers are those of ``segment``, and only what has changed is computed."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import refam_analysis as ra
from refam_analysis.analysis import received_by_key
from refam_analysis.models import DiffusionModel
from refam_analysis.segmentation import Segmenter, default_settings, load_segmenter
from refam_analysis.widgets.probe import NoAnswerError, Probe
from refam_analysis.widgets.probe_message import view_of

LONG = 120.0


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return ra.load_model("embedded")


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_segmenter("embedded")


@pytest.fixture(scope="module")
def opened(model: DiffusionModel, segmenter: Segmenter) -> Iterator[Probe]:
    probe = Probe(model, segmenter=segmenter)
    yield probe
    probe.close()


@pytest.fixture
def probe(opened: Probe) -> Probe:
    """One probe for all tests, as it was first."""
    from refam_analysis.widgets.probe_message import FIRST_CHOICES, FIRST_VIEW

    return answered(opened, **FIRST_CHOICES | FIRST_VIEW | {"expression": "the large green one"})


def answered(probe: Probe, **changes: Any) -> Probe:
    assert probe.ask(**changes).wait(LONG)
    return probe


def browser_sends(probe: Probe, **changes: Any) -> None:
    """What arrives when a reader changes something in the app."""
    probe.set_state({"chosen": {**probe.chosen, **changes}})
    assert probe.wait(LONG)


SWITCHES = {
    "as-it-is": ({}, {}),
    "noun-phrase": ({"noun_phrase": True}, {"noun_phrase": True}),
    "spatial-bias": ({"spatial_bias": True}, {"spatial_bias": True}),
    "suppress": ({"gas": "suppress"}, {"gas": "suppress"}),
    "redirect": ({"gas": "redirect"}, {"gas": "redirect"}),
    "another-seed": ({"seed": 5}, {"seed": 5}),
    "no-magnets": ({"stop_words": False, "colours": False}, {"magnets": ()}),
}


@pytest.mark.parametrize("name", SWITCHES)
def test_answer_is_that_of_segment_to_the_last_bit(
    probe: Probe, model: DiffusionModel, segmenter: Segmenter, name: str
) -> None:
    changes, arguments = SWITCHES[name]
    found = answered(probe, **changes).result
    expected = ra.segment(model, probe.state.picture.pixels, "the large green one", segmenter=segmenter, **arguments)
    np.testing.assert_array_equal(found.heatmap.values, expected.heatmap.values)
    np.testing.assert_array_equal(found.mask, expected.mask)
    assert found.point == expected.point


@pytest.mark.parametrize(
    "changes",
    [{"block": 3}, {"token": "green"}, {"measure": "entropy"}, {"noun_phrase": True}, {"spatial_bias": True}],
    ids=str,
)
def test_change_that_needs_no_pass_runs_none(probe: Probe, changes: dict[str, Any]) -> None:
    before = probe.passes_run
    answered(probe, **changes)
    assert probe.passes_run == before and probe.status["kind"] == "done"


def test_pass_is_remembered(probe: Probe) -> None:
    answered(probe, seed=21)
    before = probe.passes_run
    answered(probe, seed=0)
    answered(probe, seed=21)
    assert probe.passes_run == before


def test_next_seed_shares_the_draws_that_it_has(probe: Probe) -> None:
    """The embedded model draws four times; seed 31 has three draws of seed 30, and one pass tells of its sinks."""
    answered(probe, seed=30)
    before = probe.passes_run
    answered(probe, seed=31)
    assert probe.passes_run == before + 2


def test_with_and_without_magnets_is_one_change(probe: Probe) -> None:
    with_magnets, without = answered(probe, comparison="no magnets").results
    assert with_magnets.stages["prompt"].magnets and not without.stages["prompt"].magnets
    assert [answer["heading"] for answer in probe.answers] == ["the large green one + 8 magnets", "the large green one"]


def test_error_of_one_side_leaves_the_other(probe: Probe) -> None:
    answered(probe, comparison="another sentence", other="the")
    assert "error" not in probe.answers[0] and probe.maps[0]
    assert "only stop words" in probe.answers[1]["error"] and probe.maps[1] == {}
    assert probe.result.mask.any()


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"expression": ""}, "is empty"),
        ({"expression": "word " * 10_000}, "400 characters, and this has 50,000"),
        ({"expression": "the of"}, "only stop words"),
        ({"expression": "strange " * 40}, "would be cut"),
        ({"gas": "redirect", "stop_words": False, "colours": False}, "has none"),
        ({"scene": {"number": 10**7}}, "from 0 to 9999"),
        ({"seed": -3}, "from 0 to"),
    ],
    ids=["empty", "10,000-words", "stop-words", "too-many-tokens", "no-magnets", "no-such-scene", "seed"],
)
def test_what_is_wrong_is_told_in_the_app(probe: Probe, changes: dict[str, Any], sentence: str) -> None:
    answered(probe, **changes)
    assert probe.status["kind"] == "error"
    assert sentence in str(probe.error)


def test_model_that_is_not_there_is_told_in_the_app(tmp_path: Path) -> None:
    probe = Probe(tmp_path / "nothing")
    assert probe.wait(LONG)
    assert "there is no such folder" in str(probe.error)
    with pytest.raises(NoAnswerError, match="there is no such folder"):
        _ = probe.result
    probe.close()


def test_error_that_nobody_foresaw_is_told_in_the_app(model: DiffusionModel) -> None:
    class Broken:
        def set_image(self, image: np.ndarray) -> None:
            raise ZeroDivisionError("nothing to divide by")

        def predict(self, points: Any) -> Any:
            raise AssertionError

    probe = Probe(model, segmenter=Broken())
    assert probe.wait(LONG)
    assert "Something unexpected happened (ZeroDivisionError: nothing to divide by)" in str(probe.error)
    probe.close()


def test_browser_changes_what_is_chosen_and_nothing_else(probe: Probe) -> None:
    before = probe.status
    probe.set_state({"status": {"kind": "error", "text": "<script>"}, "_esm": "alert(1)", "offered": {}})
    assert probe.status == before and probe.offered["ready"] and "alert(1)" not in probe._esm
    browser_sends(probe, expression="the pink cross")
    assert probe.result.stages["prompt"].expression == "the pink cross"


def test_new_scene_brings_a_sentence_that_is_true_of_it(probe: Probe) -> None:
    browser_sends(probe, expression=probe.offered["expressions"][1])
    browser_sends(probe, scene={**probe.chosen["scene"], "number": 5})
    assert probe.chosen["expression"] == probe.offered["expressions"][0] == probe.result.stages["prompt"].expression


def test_sentence_of_the_readers_own_stays_with_a_new_scene(probe: Probe) -> None:
    browser_sends(probe, expression="the nicest thing")
    browser_sends(probe, scene={**probe.chosen["scene"], "number": 6})
    assert probe.result.stages["prompt"].expression == "the nicest thing"


def test_upload_is_asked_about(probe: Probe) -> None:
    written = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(written, format="PNG")
    probe._handle_custom_msg({"type": "upload", "name": "sea.png"}, [memoryview(written.getvalue())])
    assert probe.wait(LONG)
    assert probe.chosen["source"] == "upload" and probe.offered["title"] == "sea.png"
    assert probe.result.mask.shape == (48, 64)


def test_upload_that_is_refused_leaves_the_picture(probe: Probe) -> None:
    before = probe.picture
    probe._handle_custom_msg({"type": "upload", "name": "x.svg"}, [b"<svg><script>alert(1)</script></svg>"])
    assert probe.picture == before
    assert probe.status["kind"] == "error" and "no PNG, JPEG or WebP" in probe.status["text"]


def test_files_are_opened_only_where_they_may_be(model: DiffusionModel, segmenter: Segmenter, noise_png: Path) -> None:
    for allowed, source in ((True, "file"), (False, "scene")):
        probe = Probe(model, segmenter=segmenter, local_files=allowed)
        probe._handle_custom_msg({"type": "open", "path": str(noise_png)}, [])
        assert probe.chosen["source"] == source and probe.offered["files"] is allowed
        probe.close()


@pytest.mark.parametrize("message", [None, "cancel", {"type": "export"}, {"type": "upload"}, {}, {"type": ["open"]}])
def test_message_that_means_nothing_does_no_harm(probe: Probe, message: Any) -> None:
    probe._handle_custom_msg(message, [])
    assert answered(probe).result.mask.any()


# What is shown


def test_matrix_is_received_mass_by_block_head_and_token(probe: Probe, model: DiffusionModel) -> None:
    (view,) = probe._answered()
    recording = ra.record(
        model, probe.state.picture.pixels, "the large green one", magnets=ra.DEFAULT_MAGNETS,
        noise_level=default_settings(model).noise_levels, keep=["received_from_image"],
    )  # fmt: skip
    mass = received_by_key(recording, from_queries="image").isel(step=0, branch=0)
    sent = np.frombuffer(probe.answers[0]["matrices"][0], "<f4").reshape(view.matrix("received from image").shape)
    assert sent.shape == (*recording["received_from_image"].shape[2:4], len(view.groups))
    np.testing.assert_allclose(sent[..., :12], mass.values[..., :12], rtol=1e-4)
    assert view.groups[-1].text == "padding ×19"
    np.testing.assert_allclose(sent[..., -1], mass.values[..., 13:32].mean(-1), rtol=1e-4)


def test_map_of_a_head_is_its_attention(probe: Probe) -> None:
    """Raw probabilities in the embedded model's settings, averaged over its draws."""
    answered(probe, block=4, head=2, token="green")
    expected = np.mean(
        [one["image_to_text"].isel(step=0, branch=0, block=4, head=2, token=2).values for one in view_draws(probe)], 0
    )
    shown = np.frombuffer(probe.maps[0]["values"], "<f4").reshape(12, 12)
    np.testing.assert_allclose(shown, expected, rtol=1e-5)
    assert probe.maps[0]["title"] == "Map of “green”, block 4, head 2"


def view_draws(probe: Probe) -> tuple[ra.Recording, ...]:
    return probe._answered()[0].answer.recordings


def test_choice_of_a_word_carries_over_to_the_other_sentence(probe: Probe) -> None:
    answered(probe, comparison="no magnets", token="green")
    assert [shown["token"] for shown in probe.maps] == ["green", "green"]
    answered(probe, token="magnet red")
    assert [shown["token"] for shown in probe.maps] == ["magnet red", None]


def test_sinks_are_badged_as_detect_sinks_calls_them(probe: Probe) -> None:
    (view,) = probe._answered()
    table = view.answer.sinks
    called = table[table["is_sink"] & (table["side"] == "text")]
    expected = {int(row.position): set() for row in called.itertuples()}
    for row in called.itertuples():
        expected[int(row.position)].add(int(row.block))
    found = {group.places[0]: set(group.sink_blocks) for group in view.groups if group.sink_blocks}
    assert found == {place: blocks for place, blocks in expected.items() if place < 13} | (
        {13: set().union(*(blocks for place, blocks in expected.items() if place >= 13))}
        if any(place >= 13 for place in expected)
        else {}
    )


# What leaves it


def run_script(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(compile(text, "probe.py", "exec"), names)
    return names


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scene": {"number": 8, "objects": 2, "shared_attribute": True}, "expression": "the 'odd' one", "seed": 4},
        {"noise_level": 0.45, "gas": "suppress", "noun_phrase": True, "spatial_bias": True, "own_words": "of"},
        {"comparison": "no magnets", "block": 1, "head": 2, "token": "green"},
    ],
    ids=["first", "another-scene", "switches", "compared"],
)
def test_script_repeats_what_is_shown_exactly(
    probe: Probe, changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    answered(probe, **changes)
    text = probe.script()
    assert len([line for line in text.splitlines() if line.strip()]) <= 12
    names = run_script(text, tmp_path, monkeypatch)
    for found, shown in zip(names["results"], probe.results, strict=True):
        np.testing.assert_array_equal(found.mask, shown.mask)
        np.testing.assert_array_equal(found.heatmap.values, shown.heatmap.values)
        assert found.point == shown.point
    if view_of(probe.view).block is not None:
        shown = np.frombuffer(probe.maps[0]["values"], "<f4").reshape(12, 12)
        np.testing.assert_array_equal(names["shown"].values.astype("<f4"), shown)
    assert str(probe.result.point) in capsys.readouterr().out


def test_script_of_an_upload_comes_with_its_picture(
    probe: Probe, noise_png: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert probe.ask(noise_png, expression="the grey thing").wait(LONG)
    path = probe.save_script(tmp_path / "kept")
    names = run_script(path.read_text(), path.parent, monkeypatch)
    np.testing.assert_array_equal(names["results"][0].mask, probe.result.mask)


def test_downloads_are_what_they_are_called(probe: Probe, tmp_path: Path) -> None:
    files = dict(probe.file(what) for what in ("script", "svg", "png", "recording"))
    assert files["probe.py"].decode() == probe.script()
    assert re.search(rb"<svg[^>]*>", files["probe.svg"])
    assert Image.open(io.BytesIO(files["probe.png"])).width > 800
    zipfile.ZipFile(io.BytesIO(files["recording.zip"])).extractall(tmp_path)
    loaded = ra.load_recording(tmp_path / "recording.zarr")
    np.testing.assert_array_equal(loaded["image_to_text"].values, probe.recording["image_to_text"].values)


def test_unknown_choice_is_an_error(probe: Probe) -> None:
    with pytest.raises(NoAnswerError, match="nothing called expresion"):
        probe.ask(expresion="the ring")


def test_two_probes_of_one_model_take_turns(model: DiffusionModel, segmenter: Segmenter) -> None:
    probes = [Probe(model, segmenter=segmenter, expression=text) for text in ("the cross", "the circle")]
    assert all(probe.wait(LONG) for probe in probes)
    assert [probe.error for probe in probes] == [None, None]
    for probe in probes:
        probe.close()
