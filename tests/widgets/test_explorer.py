"""The explorer's data: what is lost when it is written, which scenes there are and why, files, and the widget."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from references.node import ask_node

import refam_analysis as ra
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.prompts import make_prompt
from refam_analysis.scenes import KINDS
from refam_analysis.segmentation import default_settings, heatmap
from refam_analysis.widgets.explorer import Explorer, UnknownSceneError
from refam_analysis.widgets.explorer_data import ExplorerScene, Quantised, bits, quantisation_error, quantise
from refam_analysis.widgets.explorer_files import MOST_BYTES, files_of, key, scene_script, write_files
from refam_analysis.widgets.explorer_list import RULES, candidates, explored, listed_scenes, outcome_of
from refam_analysis.widgets.explorer_scenes import NothingToExploreError, draws_together, scene_of
from refam_analysis.widgets.scripts import STATIC, ScriptSourceError, classic_source, module_source

ENTRIES = listed_scenes()
MAPS = npst.arrays(
    np.float32, st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    elements=st.floats(0, 1, width=32, allow_subnormal=False),
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return load_model("embedded")


@pytest.fixture(scope="module")
def scenes(model: DiffusionModel) -> dict[str, ExplorerScene]:
    """Every scene of the list, computed once."""
    return {scene.name: scene for scene in explored(model)}


@pytest.fixture(scope="module")
def two(scenes: dict[str, ExplorerScene]) -> list[ExplorerScene]:
    return [scenes["colour"], scenes["magnets-help"]]


# Quantisation


@given(MAPS)
@pytest.mark.parametrize("width", [8, 16], ids=lambda n: f"{n}-bits")
def test_a_written_map_differs_by_half_a_step_at_most(width: int, maps: np.ndarray) -> None:
    read = Quantised.from_dict(json.loads(json.dumps(quantise(maps, shared=2, bits=width).to_dict()))).restore()
    for exact, found in zip(maps.astype(np.float64), read, strict=True):
        step = (exact.max() - exact.min()) / (2**width - 1)
        rounding = 3e-7 * np.abs(exact).max()  # float32's, of the smallest value and of the step
        assert np.abs(found - exact).max() <= 0.5 * step + rounding


@given(MAPS)
def test_a_written_map_has_its_peak_where_it_was(maps: np.ndarray) -> None:
    for exact, found in zip(maps, quantise(maps, shared=2).restore(), strict=True):
        assert found.flat[int(exact.argmax())] == found.max()


def test_the_error_that_the_page_states_bounds_every_map(two: list[ExplorerScene]) -> None:
    stated = quantisation_error(two)
    for scene in two:
        for view in scene.views.values():
            for exact in view.attention.values():
                away = np.abs(quantise(exact, shared=2).restore() - exact)
                assert away.max() <= stated.absolute
    assert 0 < stated.relative <= 1 / 127


def test_bits_are_those_of_the_mask() -> None:
    mask = np.random.default_rng(0).random((5, 7)) < 0.5
    reply = ask_node(
        'import { unpackBits } from "./explorer-data.js"; const reply = [...unpackBits(question, 35)];', bits(mask)
    )
    assert reply == mask.astype(int).ravel().tolist()


# Scenes and reasons


def test_the_list_has_at_least_twelve_scenes_and_none_twice() -> None:
    assert len(ENTRIES) >= 12
    assert len({entry.scene for entry in ENTRIES}) == len({entry.name for entry in ENTRIES}) == len(ENTRIES)


def test_the_list_has_every_kind_and_every_relation() -> None:
    assert {entry.kind for entry in ENTRIES} == set(KINDS)
    texts = [entry.expression for entry in ENTRIES if entry.kind == "relation"]
    assert all(any(f" {phrase} " in text for text in texts) for phrase in ("left of", "right of", "above", "below"))


def test_the_list_is_of_validation_scenes() -> None:
    assert candidates().split == "validation"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_scene_is_what_its_reason_says(entry, scenes: dict[str, ExplorerScene]) -> None:
    (rule,) = [rule for rule in RULES if rule.name == entry.name]
    assert (entry.title, entry.reason) == (rule.title, rule.reason)
    sample = candidates()[entry.scene]
    (expression,) = [one for one in sample.expressions if one.text == entry.expression]
    assert (expression.kind, expression.target) == (entry.kind, entry.target)
    views = scenes[entry.name].views
    answers = [views["without"].answer, views["with"].answer]
    assert rule.holds(outcome_of(sample, expression, [answer for answer in answers if answer]))


def test_the_answer_is_that_of_segment(scenes: dict[str, ExplorerScene], model: DiffusionModel) -> None:
    scene = scenes["magnets-help"]
    settings = default_settings(model).attention_alone
    result = ra.segment(model, scene.image, scene.expression, settings=settings)
    answer = scene.views["with"].answer
    assert answer is not None
    assert answer.point == result.point
    np.testing.assert_array_equal(answer.mask, result.mask)


def test_maps_are_those_that_the_answer_was_read_from(model: DiffusionModel) -> None:
    sample = candidates()[ENTRIES[0].scene]
    text = ENTRIES[0].expression
    settings = default_settings(model).attention_alone
    own = heatmap(draws_together(model, sample.image, make_prompt(text)), settings)
    asked = ra.segment(model, sample.image, text, magnets=(), settings=settings).heatmap
    np.testing.assert_allclose(own, asked, rtol=1e-3, atol=1e-7)


def test_received_mass_has_mean_one(two: list[ExplorerScene]) -> None:
    for scene in two:
        for view in scene.views.values():
            for mass in view.received.values():
                np.testing.assert_allclose(mass.mean(-1), 1.0, atol=1e-4)


def test_padding_has_one_map_the_mean_of_its_tokens(model: DiffusionModel) -> None:
    sample = candidates()[0]
    recording = ra.record(model, sample.image, "the red ring")
    view = scene_of(recording, sample.image).views["without"]
    (place,) = {token.map for token in view.tokens if token.kind == "padding"}
    padding = [i for i, token in enumerate(recording.tokens) if token.kind == "padding"]
    expected = recording["text_to_image"].values[0, 0][:, :, padding].mean(2)
    np.testing.assert_allclose(view.attention["text_to_image"][:, :, place], expected, atol=1e-6)


def test_a_token_keeps_its_key_when_magnets_are_appended(two: list[ExplorerScene]) -> None:
    for scene in two:
        keys = [
            {token.key: token.text for token in view.tokens if token.kind in ("content", "stop", "special")}
            for view in scene.views.values()
        ]
        assert keys[0] == keys[1] and keys[0]


# What the browser reads


def test_the_browser_reads_the_maps_that_python_wrote(two: list[ExplorerScene]) -> None:
    code = """
    import { Scene } from "./explorer-data.js";
    const view = new Scene(question).view(true);
    const maps = [[0, 1, 2], [4, 2, 0]].map(([block, head, map]) => [...view.mapOf("text_to_image", block, head, map)]);
    const reply = [...maps, [...view.mapOf("image_to_text", 3, "mean", 1)], [...view.mass("image", "tokens", 2, 1)]];
    """
    one, other, mean, mass = ask_node(code, two[1].to_dict())
    view = two[1].views["with"]
    maps = {name: quantise(values, shared=2).restore() for name, values in view.attention.items()}
    assert one == maps["text_to_image"][0, 1, 2].ravel().tolist()
    assert other == maps["text_to_image"][4, 2, 0].ravel().tolist()
    np.testing.assert_allclose(mean, maps["image_to_text"][3, :, 1].mean(0).ravel(), rtol=1e-12)
    np.testing.assert_allclose(mass, view.received["image"][2, 1, : len(view.tokens)], atol=1e-3)


def test_the_browser_says_where_a_map_lies(two: list[ExplorerScene]) -> None:
    code = """
    import { Scene } from "./explorer-data.js";
    const view = new Scene(question).view(true);
    const reply = [view.places(view.mapOf("image_to_text", 0, "mean", 1)), [...view.backgroundReads(0, "mean")]];
    """
    scene = two[0]
    places, reads = ask_node(code, scene.to_dict())
    view, rows = scene.views["with"], scene.grid[0]
    side = scene.image.shape[0] // rows
    assert scene.target is not None and scene.others is not None
    cover = [m.reshape(rows, side, rows, side).mean((1, 3)) for m in (scene.target, scene.others)]
    values = view.attention["image_to_text"][0].mean(0)
    assert places["target"] == pytest.approx((values[1] * cover[0]).sum() / values[1].sum(), abs=2e-3)
    assert places["other"] == pytest.approx((values[1] * cover[1]).sum() / values[1].sum(), abs=2e-3)
    magnets = {token.map for token in view.tokens if token.kind == "magnet"}
    back = [(values[token.map] * (1 - cover[0] - cover[1])).sum() for token in view.tokens]
    share = sum(m for m, token in zip(back, view.tokens, strict=True) if token.map in magnets) / sum(back)
    assert dict(reads)["magnet"] == pytest.approx(share, abs=2e-3)


# Files


def test_all_files_together_are_small(scenes: dict[str, ExplorerScene], tmp_path: Path) -> None:
    about = write_files(scenes.values(), tmp_path)
    assert about["bytes"] == sum(file.stat().st_size for file in files_of(tmp_path)) <= MOST_BYTES
    assert about["scenes"] == len(ENTRIES)
    assert {file.stem for file in (tmp_path / "scenes").iterdir()} == {entry.name for entry in ENTRIES}


def test_two_builds_are_equal_byte_for_byte(
    scenes: dict[str, ExplorerScene], model: DiffusionModel, tmp_path: Path
) -> None:
    write_files([scenes[ENTRIES[0].name]], tmp_path / "one")
    write_files(explored(model, ENTRIES[:1]), tmp_path / "two")
    one, two = ([(f.relative_to(d), f.read_bytes()) for f in files_of(d)] for d in (tmp_path / "one", tmp_path / "two"))
    assert one == two


def test_files_depend_on_the_list(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text('{"scenes": []}')
    assert key(path) != key() == key()


def test_a_file_is_unpacked_to_what_was_packed(two: list[ExplorerScene]) -> None:
    whole = two[0].to_dict()
    script = scene_script(two[0])
    packed = json.loads(script[script.index(", ") + 2 : script.rindex(")")])
    assert "deflated" in packed["views"]["with"]["attention"]["image_to_text"]
    reply = ask_node(
        """
        import { unpacked } from "./explorer-data.js";
        const text = (part) => btoa(String.fromCharCode(...part));
        const plain = (part) => (part instanceof Uint8Array ? text(part)
            : Array.isArray(part) ? part.map(plain)
            : part !== null && typeof part === "object"
                ? Object.fromEntries(Object.entries(part).map(([name, one]) => [name, plain(one)])) : part);
        const reply = plain(await unpacked(question));
        """,
        packed,
    )
    assert reply == whole


def test_a_scene_cannot_end_its_script(two: list[ExplorerScene]) -> None:
    from dataclasses import replace

    script = scene_script(replace(two[0], expression="</script><b>"))
    assert "<" not in script


# Scripts


@pytest.mark.parametrize("name", sorted(file.name for file in STATIC.glob("explorer*.js")))
def test_scripts_parse_in_both_worlds(name: str, tmp_path: Path) -> None:
    node = shutil.which("node", path=str(Path(sys.executable).parent)) or shutil.which("node")
    assert node
    (tmp_path / "one.mjs").write_text(module_source(name))
    (tmp_path / "two.cjs").write_text(classic_source(name, called="Name"))
    for file in ("one.mjs", "two.cjs"):
        subprocess.run([node, "--check", file], cwd=tmp_path, check=True, capture_output=True)


def test_the_module_imports_nothing() -> None:
    assert not [line for line in module_source("explorer.js").splitlines() if line.startswith("import ")]


def test_an_import_of_another_form_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd.js").write_text('import everything from "./drawing.js";\n')
    monkeypatch.setattr("refam_analysis.widgets.scripts.STATIC", tmp_path)
    with pytest.raises(ScriptSourceError, match="odd.js has the line"):
        module_source("odd.js")


def test_colours_are_matplotlibs_magma() -> None:
    import matplotlib as mpl

    code = 'import { heatColour } from "./drawing.js"; const reply = question.map((share) => heatColour(share));'
    shares = [i / 255 for i in range(256)]
    expected = np.rint(mpl.colormaps["magma"](shares)[:, :3] * 255)
    assert ask_node(code, shares) == expected.tolist()
    light = expected @ [0.2126, 0.7152, 0.0722]
    assert all(after > before - 0.5 for before, after in pairwise(light))


# The widget


def test_the_widget_shows_the_first_scene_and_hands_over_another(two: list[ExplorerScene]) -> None:
    explorer = Explorer(two)
    assert [heading["name"] for heading in explorer.headings] == ["colour", "magnets-help"]
    assert explorer.scene == explorer.data["name"] == "colour"
    explorer.scene = "magnets-help"
    assert explorer.data["expression"] == two[1].expression


def test_the_widget_has_its_state_in_python(two: list[ExplorerScene]) -> None:
    explorer = Explorer(two[0])
    explorer.set_state({"block": 3, "head": 1, "token": "word 1", "magnets": False, "direction": "text_to_image"})
    assert (explorer.block, explorer.head, explorer.token) == (3, 1, "word 1")
    assert not explorer.magnets and explorer.direction == "text_to_image"


def test_the_widget_refuses_a_scene_that_it_does_not_have(two: list[ExplorerScene]) -> None:
    explorer = Explorer(two)
    with pytest.raises(UnknownSceneError, match="choose among colour, magnets-help"):
        explorer.scene = "cats"
    with pytest.raises(UnknownSceneError, match="no one scene 'colour'"):
        Explorer([two[0], two[0]])


def test_the_widget_takes_recordings(model: DiffusionModel) -> None:
    sample = candidates()[1]
    recordings = [ra.record(model, sample.image, text, magnets=["."]) for text in ("the ring", "the red star")]
    explorer = ra.Explorer(recordings, images=[sample.image, sample.image])
    assert list(explorer.data["views"]) == ["with"]
    assert explorer.data["blocks"] == list(range(12)) and explorer.data["heads"] == [0, 1, 2]
    assert explorer.data["truth"] is None


def test_the_example_of_the_page_runs() -> None:
    page = (Path(__file__).parents[2] / "book" / "explorer.md").read_text()
    names: dict[str, Any] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    assert isinstance(names["explorer"], Explorer)
    assert set(names["explorer"].data["views"]) == {"with", "without"}


def test_a_recording_without_maps_is_refused(model: DiffusionModel) -> None:
    recording = ra.record(model, candidates()[1].image, "the ring", keep=["entropy"])
    with pytest.raises(NothingToExploreError, match="kept were only entropy"):
        Explorer(recording)
    with pytest.raises(NothingToExploreError, match="no scene and no recording"):
        Explorer([])
