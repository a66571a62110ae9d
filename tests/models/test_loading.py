"""Loading: from a folder, from memory, by name; and what is said of a folder that lacks something."""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors.torch import load_file, save_file

from refam_analysis.models import ModelFolderError, UnsupportedModelError, find_blocks, load_model
from refam_analysis.models.flux import FluxModel
from refam_analysis.prompts import make_prompt


@pytest.fixture
def folder(tiny_flux_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(tiny_flux_folder, tmp_path / "model"))


def test_a_folder_becomes_a_model_with_its_own_defaults(tiny_flux_folder: Path) -> None:
    model = load_model(tiny_flux_folder)
    assert isinstance(model, FluxModel)
    assert (model.default_size, model.text_length) == ((32, 40), 24)
    assert (model.defaults.steps, model.defaults.guidance) == (2, 1.0)
    assert (model.name, model.revision) == (str(tiny_flux_folder), None)
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)
    assert not model.transformer.training
    assert model.generate("a red ring").size == (40, 32)


def test_loaded_weights_are_the_saved_ones(
    tiny_flux_folder: Path, tiny_flux_pipeline: Callable[..., FluxPipeline]
) -> None:
    loaded, built = load_model(str(tiny_flux_folder)).pipeline, tiny_flux_pipeline()
    for part in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        expected = getattr(built, part).state_dict()
        for name, tensor in getattr(loaded, part).state_dict().items():
            torch.testing.assert_close(tensor, expected[name], msg=f"{part}.{name}")


def test_half_precision_files_are_computed_in_float32(
    tiny_flux_pipeline: Callable[..., FluxPipeline], tmp_path: Path
) -> None:
    tiny_flux_pipeline().to(dtype=torch.float16).save_pretrained(tmp_path)
    (tmp_path / "refam.json").write_text(json.dumps({"image_size": [32, 40], "text_length": 24}))
    model = load_model(tmp_path)
    assert {tensor.dtype for tensor in model.transformer.parameters()} == {torch.float32}
    assert {tensor.dtype for tensor in model.pipeline.text_encoder_2.parameters()} == {torch.float32}
    assert model.encode_prompts([make_prompt("ring")]).inputs["encoder_hidden_states"].dtype == torch.float32


def test_the_dtype_can_be_chosen(tiny_flux_folder: Path) -> None:
    model = load_model(tiny_flux_folder, dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert model.encode_images([torch.zeros(3, 32, 40)]).dtype == torch.bfloat16


def test_a_live_pipeline_is_used_as_it_is(tiny_flux_pipeline: Callable[..., FluxPipeline]) -> None:
    pipeline = tiny_flux_pipeline()
    model = load_model(pipeline)
    assert model.transformer is pipeline.transformer
    assert model.name == "FluxPipeline"
    assert load_model(pipeline, dtype=torch.bfloat16).transformer.dtype == torch.bfloat16


def test_grounding_settings_come_with_the_folder(folder: Path) -> None:
    (folder / "refam.json").write_text(json.dumps({"grounding": {"noise_level": 0.6}}))
    model = load_model(folder)
    assert model.defaults.grounding == {"noise_level": 0.6}
    assert model.text_length == 256


def test_loading_is_silent_and_leaves_the_libraries_as_they_were(
    tiny_flux_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    diffusers_logging.set_verbosity(logging.INFO)
    try:
        load_model(tiny_flux_folder)
        assert diffusers_logging.get_verbosity() == logging.INFO
        assert diffusers_logging.is_progress_bar_enabled()
    finally:
        diffusers_logging.set_verbosity_warning()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "part", ["transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler"]
)
def test_a_missing_part_is_named(part: str, folder: Path) -> None:
    shutil.rmtree(folder / part)
    with pytest.raises(ModelFolderError, match=f"it has no {part}/ folder"):
        load_model(folder)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("model_index.json", "it has no model_index.json"),
        ("transformer/config.json", "transformer/ has no config.json"),
        ("transformer/diffusion_pytorch_model.safetensors", r"transformer/ has no weights \(.safetensors\)"),
        ("text_encoder_2/model.safetensors", r"text_encoder_2/ has no weights \(.safetensors\)"),
        ("tokenizer_2/tokenizer.json", "tokenizer_2/ has no tokenizer.json or"),
        ("scheduler/scheduler_config.json", "scheduler/ has no scheduler_config.json"),
    ],
)
def test_a_missing_file_is_named(file: str, message: str, folder: Path) -> None:
    (folder / file).unlink()
    with pytest.raises(ModelFolderError, match=message):
        load_model(folder)


def test_everything_that_is_missing_is_named_at_once(folder: Path) -> None:
    shutil.rmtree(folder / "vae")
    shutil.rmtree(folder / "scheduler")
    with pytest.raises(ModelFolderError, match="no scheduler/ folder.*no vae/ folder|no vae/.*no scheduler/"):
        load_model(folder)


def test_pickled_weights_are_not_read(folder: Path) -> None:
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ModelFolderError, match=r"vae/ has pickled weights only \(.bin\)"):
        load_model(folder)


def test_a_missing_shard_is_named(folder: Path) -> None:
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    names, shard = sorted(tensors), "diffusion_pytorch_model-0000{}-of-00002.safetensors"
    halves = {name: shard.format(1 + (i >= len(names) // 2)) for i, name in enumerate(names)}
    for half in set(halves.values()):
        save_file({name: tensors[name] for name in names if halves[name] == half}, weights.with_name(half))
    weights.unlink()
    index = {"metadata": {"total_size": 0}, "weight_map": halves}
    weights.with_name(f"{weights.name}.index.json").write_text(json.dumps(index))
    load_model(folder)
    weights.with_name(shard.format(2)).unlink()
    with pytest.raises(ModelFolderError, match="transformer/ lacks diffusion_pytorch_model-00002-of-00002"):
        load_model(folder)


@pytest.mark.parametrize(
    ("part", "tensor"),
    [("transformer", "proj_out.weight"), ("text_encoder_2", "encoder.final_layer_norm.weight")],
)
def test_a_missing_tensor_is_an_error_and_not_random(part: str, tensor: str, folder: Path) -> None:
    [weights] = (folder / part).glob("*.safetensors")
    tensors = load_file(weights)
    del tensors[tensor]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ModelFolderError, match=f"weights in {part}/ lack 1 tensors, such as {tensor}"):
        load_model(folder)


def test_a_file_that_is_cut_short_names_its_part(folder: Path) -> None:
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelFolderError, match="its transformer/ cannot be loaded"):
        load_model(folder)


def test_a_model_says_which_scenes_it_knows(folder: Path) -> None:
    assert load_model(folder).scene_style == "plain"
    said = json.loads((folder / "refam.json").read_text())
    (folder / "refam.json").write_text(json.dumps(said | {"scenes": "rich"}))
    assert load_model(folder).scene_style == "rich"


def test_scenes_that_there_are_not_are_named(folder: Path) -> None:
    (folder / "refam.json").write_text(json.dumps({"scenes": "baroque"}))
    with pytest.raises(ModelFolderError, match="'baroque', and there are plain and rich"):
        load_model(folder)


@pytest.mark.parametrize("text", ["{", "[]"], ids=["no-json", "no-object"])
def test_broken_settings_are_named(text: str, folder: Path) -> None:
    (folder / "refam.json").write_text(text)
    with pytest.raises(ModelFolderError, match="refam.json"):
        load_model(folder)


@pytest.mark.parametrize("source", ["embeded", "./nowhere", "/nowhere/at/all"])
def test_a_folder_that_does_not_exist_is_refused_without_asking_the_network(source: str) -> None:
    with pytest.raises(ModelFolderError, match="there is no such folder"):
        load_model(source)


def test_a_file_is_no_folder(folder: Path) -> None:
    with pytest.raises(ModelFolderError, match="there is no such folder"):
        load_model(folder / "model_index.json")


def test_an_unknown_family_is_refused_before_its_weights_are_read(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "AnyPipeline"}))
    with pytest.raises(UnsupportedModelError, match="A AnyPipeline is not supported. Give one of FluxPipeline"):
        load_model(folder)


def test_a_model_of_the_hub_is_found_in_its_cache_without_network(tiny_flux_folder: Path, tmp_path: Path) -> None:
    """The hub library reads its environment when it is imported, so this asks in a process of its own."""
    revision, repository = "0" * 40, tmp_path / "hub" / "models--owner--tiny"
    shutil.copytree(tiny_flux_folder, repository / "snapshots" / revision)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    script = """
from refam_analysis.models import ModelFolderError, load_model
model = load_model("owner/tiny")
print(model.name, model.revision, model.text_length)
try:
    load_model("owner/unknown")
except ModelFolderError as error:
    print(error)
"""
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    found, refused = run.stdout.splitlines()
    assert found == f"owner/tiny {revision} 24"
    assert "'owner/unknown' cannot be used: there is no such folder, and the hub does not give it" in refused


def test_the_model_of_rich_scenes_is_deep_and_is_computed_in_float32() -> None:
    model = load_model("embedded-rich")
    assert (model.scene_style, model.name, model.dtype) == ("rich", "embedded-rich", torch.float32)
    assert len(find_blocks(model.transformer)) == 12


def test_the_model_of_clips_sees_several_frames_and_is_computed_in_float32() -> None:
    model = load_model("embedded-video")
    assert (model.family.name, model.name, model.dtype) == ("mochi", "embedded-video", torch.float32)
    assert model.family.is_video and model.defaults.frames == 13 and model.frames_per_latent == 6
    assert len(find_blocks(model.transformer)) == 6
