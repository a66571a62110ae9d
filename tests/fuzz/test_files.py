"""Tables, settings, model folders, checkpoints and bundles with anything in them: used, or refused in a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file

from fuzz.mutating import changes, examples, junk, mutate, put, texts
from refam_analysis.cli.evaluate import _settings as settings_file
from refam_analysis.errors import RefamError
from refam_analysis.experiments.bundle import open_bundle
from refam_analysis.models import load_model
from refam_analysis.models.family import ModelDefaults
from refam_analysis.models.folders import check_folder
from refam_analysis.models.loading import _settings, _with_settings
from refam_analysis.segmentation.batch_table import read_rows
from refam_analysis.segmentation.segmenters import load_segmenter

Changes = list[tuple[str, float, bytes]]


def used_or_refused(use: Callable[[], object]) -> None:
    """Both are right; anything else that is raised is not."""
    try:
        use()
    except RefamError as error:
        assert str(error).endswith(".")


# Tables of a batch

TABLE = 'image,expression,magnets\na.png,"the ring, red",. a\nb.png,the cross,\n'
headers = st.lists(st.sampled_from(["image", " Expression", "magnets", "", "other", "\ufeff"]), max_size=5).map(
    ",".join
)


@given(changed=changes, header=headers, cells=st.lists(texts, max_size=6).map(",".join))
@example(
    changed=[("cut", 0.0, b"")], header="other,other,image,expression", cells="1,2,a.png,the ring"
)  # twice one name
@example(changed=[("cut", 0.0, b"")], header="image,expression,", cells="a.png,the ring,")
@examples(200)
def test_any_table_has_rows_or_is_refused(changed: Changes, header: str, cells: str, tmp_path: Path) -> None:
    for content in (mutate(TABLE.encode(), changed), f"{header}\n{cells}\n".encode("utf-8", "surrogatepass")):
        (tmp_path / "batch.csv").write_bytes(content)
        used_or_refused(lambda: read_rows(tmp_path / "batch.csv"))


def test_a_column_without_a_name_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "batch.csv").write_text("image,expression,\na.png,the ring,\n")
    (row,) = read_rows(tmp_path / "batch.csv")
    assert (row.image.name, row.expression) == ("a.png", "the ring")


def test_columns_of_one_name_do_not_move_the_others(tmp_path: Path) -> None:
    (tmp_path / "batch.csv").write_text("other,other,image,expression\n1,2,a.png,the ring\n")
    (row,) = read_rows(tmp_path / "batch.csv")
    assert (row.image.name, row.expression) == ("a.png", "the ring")


def test_two_columns_of_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "batch.csv").write_text("image,Image,expression\na.png,b.png,the ring\n")
    with pytest.raises(RefamError, match="two columns image"):
        read_rows(tmp_path / "batch.csv")


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"\xff", b"9" * 5000, b"null"], ids=["deep", "bytes", "long", "null"]
)
def test_settings_that_are_none_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_bytes(content)
    with pytest.raises(RefamError):
        settings_file(tmp_path / "settings.json")


# Model folders


@pytest.fixture
def folder(tiny_flux_folder: Path, tmp_path: Path) -> Path:
    """A copy to write into."""
    return Path(shutil.copytree(tiny_flux_folder, tmp_path / "model"))


@given(place=st.integers(0, 60), value=junk, changed=changes)
@example(place=0, value=[], changed=[("cut", 0.5, b"")])
@examples(120)
def test_any_index_of_a_model_folder(
    folder: Path, place: int, value: Any, changed: Changes, tiny_flux_folder: Path
) -> None:
    index = json.loads((tiny_flux_folder / "model_index.json").read_text())
    for content in (json.dumps(put(index, place, value)).encode(), mutate(json.dumps(index).encode(), changed)):
        (folder / "model_index.json").write_bytes(content)
        used_or_refused(lambda: check_folder(folder))


KNOWN = ("image_size", "text_length", "steps", "guidance", "grounding", "frames", "scenes")


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize(
    "value", [None, 5, -1, [8], [0, 0], [-32, 40], "large", {}, [1e30, 2], [10**9, 10**9], float("nan"), "9" * 5000],
    ids=lambda value: repr(value)[:12],
)  # fmt: skip
def test_any_value_in_a_models_own_settings(name: str, value: Any, tmp_path: Path) -> None:
    defaults = ModelDefaults(image_size=(32, 40), text_length=24, steps=2, guidance=1.0)
    (tmp_path / "refam.json").write_text(json.dumps({name: value}))
    used_or_refused(lambda: _with_settings(defaults, _settings(tmp_path)))


PARTS = ("transformer/config.json", "transformer/diffusion_pytorch_model.safetensors", "refam.json",
         "scheduler/scheduler_config.json", "vae/config.json", "tokenizer_2/tokenizer.json")  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
@given(changed=changes)
@examples(4, shrink=False)
def test_a_model_folder_with_changed_bytes(part: str, folder: Path, tiny_flux_folder: Path, changed: Changes) -> None:
    (folder / part).write_bytes(mutate((tiny_flux_folder / part).read_bytes(), changed))
    used_or_refused(lambda: load_model(folder))
    shutil.copyfile(tiny_flux_folder / part, folder / part)


# Segmenters


@pytest.mark.parametrize("part", ["config.json", "model.safetensors"])
@given(place=st.integers(0, 20), value=junk | st.sampled_from([2**20, 10**9]), changed=changes)
@example(place=8, value=True, changed=[("cut", 0.5, b"")])  # a truth value where a number should be
@examples(25)
def test_a_segmenters_folder_with_anything_in_it(
    part: str, tiny_sam: Path, place: int, value: Any, changed: Changes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = Path(shutil.copytree(tiny_sam, tmp_path_factory.mktemp("sam") / "copy"))
    data = (tiny_sam / part).read_bytes()
    contents = [mutate(data, changed)]
    if part.endswith(".json"):
        contents.append(json.dumps(put(json.loads(data), place, value)).encode())
    for content in contents:
        (folder / part).write_bytes(content)
        used_or_refused(lambda: load_segmenter(folder))


@pytest.fixture(scope="module")
def checkpoint(tiny_sam: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("checkpoint") / "sam.pth"
    torch.save(load_file(tiny_sam / "model.safetensors"), path)
    return path.read_bytes()


@given(changed=changes)
@examples(60)
def test_a_checkpoint_with_changed_bytes(checkpoint: bytes, changed: Changes, tmp_path: Path) -> None:
    (tmp_path / "sam.pth").write_bytes(mutate(checkpoint, changed))
    used_or_refused(lambda: load_segmenter(tmp_path / "sam.pth"))


NAMES = ("image_encoder.patch_embed.proj.weight", "image_encoder.pos_embed", "mask_decoder.mask_tokens.weight",
         "image_encoder.blocks.0.attn.rel_pos_h", "image_encoder.neck.0.weight")  # fmt: skip


@given(state=st.dictionaries(st.sampled_from(NAMES) | texts | st.integers(),
                             st.lists(st.integers(0, 3), max_size=5), max_size=6))  # fmt: skip
@examples(60)
def test_any_tensors_are_a_segmenter_or_refused(state: dict[Any, list[int]], tmp_path: Path) -> None:
    torch.save({name: torch.zeros(shape) for name, shape in state.items()}, tmp_path / "sam.pth")
    used_or_refused(lambda: load_segmenter(tmp_path / "sam.pth"))


# Bundles


@given(place=st.integers(0, 30), value=junk, changed=changes)
@examples(100)
def test_a_bundle_with_anything_in_it_is_refused(place: int, value: Any, changed: Changes, tmp_path: Path) -> None:
    about = {"format": 2, "model": "m", "revision": None, "files": {"a": {"bytes": 1, "sha256": "0" * 64}}}
    for content in (json.dumps(put(about, place, value)).encode(), mutate(json.dumps(about).encode(), changed)):
        (tmp_path / "bundle.json").write_bytes(content)
        with pytest.raises(RefamError):
            open_bundle(tmp_path)
