"""Jobs that make things: trainings and what they export, results and bundles, fetched weights, the explorer's files."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file

from faults.places import Digests, Place, Tools, array_digest, digest, file_digest, noise, table_digest
from refam_analysis.experiments.provenance import Parts, Stopwatch, load_result, write_result
from refam_analysis.files import DamagedFileError, written_folder
from refam_analysis.segmentation.segmenters.embedded import SamConfig
from refam_analysis.training.checkpoints import load_checkpoint
from refam_analysis.weights import embedded_folder, fetch
from refam_analysis.weights.table import Address, WeightsFile

CPU = torch.device("cpu")


def _tensors(path: Path) -> Digests:
    return {name: array_digest(value.numpy()) for name, value in sorted(load_file(path).items())}


def _checkpoint(folder: Path, name: str) -> Digests:
    """What a checkpoint holds, read as a training reads it."""
    found = load_checkpoint(folder, name)
    if found is None:
        raise DamagedFileError(folder / f"{name}.safetensors", "it is gone")
    return {key: array_digest(value.numpy()) for key, value in sorted(found[0].items())}


# --- trainings ---


def _begin(tools: Tools, folder: Path) -> None:
    """A working folder with the shipped tokenizers and autoencoder."""
    from refam_analysis.training import checkpoints

    checkpoints.CHECKPOINT_SECONDS = 0.0
    for part in ("tokenizer", "tokenizer_2", "vae"):
        if not (folder / part).is_dir():
            with written_folder(folder / part) as place:
                shutil.copytree(embedded_folder("embedded-dit") / part, place, dirs_exist_ok=True)


def _transformer(tools: Tools, folder: Path) -> None:
    from diffusers import AutoencoderTiny

    from refam_analysis.training.data import LatentScenes
    from refam_analysis.training.dit import Configuration, Trainer

    run = folder / "run"
    _begin(tools, run)
    vae = AutoencoderTiny.from_pretrained(run / "vae").float().eval()
    data = LatentScenes(run, vae, number=4, size=32, device=CPU)
    trainer = Trainer(run, configuration=Configuration(), seed=0, peak=1e-3)
    trainer.run(data, batch=2, steps=4, minutes=5, keep=[2])


def _transformer_data(tools: Tools, folder: Path) -> Digests:
    run = folder / "run"
    aside = {f"aside {name}": value for name, value in _checkpoint(run, "dit-2").items()}
    return {**_checkpoint(run, "dit"), **aside, "latents": file_digest(next(run.glob("latents-*.npy")))}


def _segmenter(tools: Tools, folder: Path) -> None:
    from refam_analysis.training.sam import train

    _begin_nothing()
    config = SamConfig(image_size=48, patch_size=8, width=24, depth=1, heads=2)
    train(folder / "run", minutes=5, steps=4, batch=2, seed=0, config=config)


def _begin_nothing() -> None:
    from refam_analysis.training import checkpoints

    checkpoints.CHECKPOINT_SECONDS = 0.0


def _segmenter_data(tools: Tools, folder: Path) -> Digests:
    return _checkpoint(folder / "run", "sam")


def _autoencoder(tools: Tools, folder: Path) -> None:
    from refam_analysis.training.autoencoder import train

    _begin_nothing()
    train(folder / "run", minutes=5, steps=3, batch=2, size=48, seed=0)


def _autoencoder_data(tools: Tools, folder: Path) -> Digests:
    vae = folder / "run" / "vae"
    weights = _tensors(vae / "diffusion_pytorch_model.safetensors")
    return {**weights, "config": digest((vae / "config.json").read_text())}


def _judge(tools: Tools, folder: Path) -> None:
    from refam_analysis.training.shapes import train

    _begin_nothing()
    train(folder / "run", steps=3, batch=4, seed=0)


def _judge_data(tools: Tools, folder: Path) -> Digests:
    return _checkpoint(folder / "run", "shapes")


def _trained(tools: Tools) -> None:
    _transformer(tools, tools.folder / "trained")


def _export(tools: Tools, folder: Path) -> None:
    """A second export over an earlier one, whose settings and card it keeps."""
    from refam_analysis.training.export import export

    out = folder / "exported"
    if not out.exists() and not list(folder.iterdir() if folder.exists() else ()):
        out.mkdir(parents=True)
        (out / "refam.json").write_text(json.dumps({"grounding": {"noise_levels": [0.5]}}))
        (out / "README.md").write_text("A card that somebody wrote.")
    export(tools.folder / "trained" / "run", out, configuration="small")


def _exported(tools: Tools, folder: Path) -> Digests:
    out = folder / "exported"
    return {str(path.relative_to(out)): file_digest(path) for path in sorted(out.rglob("*")) if path.is_file()}


# --- results ---


def _part(number: int) -> pd.DataFrame:
    return pd.DataFrame({"number": range(400), "value": noise(number, 400) / 7})


def _experiment(tools: Tools, folder: Path) -> None:
    """Over an earlier result of its name, as experiments do it: parts, the result, and no parts any more."""
    parts = Parts(folder / "cache", "cats", {"seed": 0})
    if not parts.folder.exists() and not (folder / "results").exists():
        earlier = {"cats": pd.DataFrame({"lives": [9]})}
        write_result("cats", earlier, Stopwatch().provenance("refam", {}, {}), results=folder / "results")
    table = pd.concat([parts.keep(f"part-{number}", lambda number=number: _part(number)) for number in range(4)])
    provenance = Stopwatch().provenance("refam experiment cats", {"seed": 0}, {})
    write_result("cats", {"cats": table}, provenance, results=folder / "results")
    parts.forget()


def _result(tools: Tools, folder: Path) -> Digests:
    result = load_result("cats", results=folder / "results")
    assert not (folder / "cache").exists() or not list((folder / "cache").iterdir())
    return {"cats": table_digest(result["cats"]), "command": result.provenance.command,
            "configuration": json.dumps(result.provenance.configuration),
            "tables": str(sorted(result.tables))}  # fmt: skip


def _measured(tools: Tools) -> None:
    from refam_analysis.experiments.claims import ledger

    measured = ledger.LedgerRun(model=str(tools.model_folder), scenes=2, control=False)
    ledger.run(measured, out=tools.folder / "claims")


def _bundle(tools: Tools, folder: Path) -> None:
    from refam_analysis.experiments.bundle import open_bundle, write_bundle

    out = folder / "tiny"
    if out.exists():
        open_bundle(out)
    else:
        write_bundle(tools.folder / "claims", out, model=tools.model, scenes=1, recordings=1)


def _bundled(tools: Tools, folder: Path) -> Digests:
    from refam_analysis.experiments.bundle import open_bundle

    bundle = open_bundle(folder / "tiny")
    tables = {f"{result.name}/{name}": table_digest(table)
              for result in (bundle.ledger, bundle.phenomena) for name, table in result.tables.items()}  # fmt: skip
    arrays = {f"recording {number} {name}": array_digest(recording[name].values)
              for number, recording in enumerate(bundle.recordings) for name in recording.kept}  # fmt: skip
    return {**tables, **arrays, "model": bundle.label, "revision": str(bundle.revision)}


# --- weights ---


def _weights(tools: Tools) -> WeightsFile:
    content = noise(9, 2**20).tobytes()
    source = tools.folder / "toy.pt"
    if not source.exists():
        source.write_bytes(content)
    digested = hashlib.sha256(content).hexdigest()
    return WeightsFile("toy", "a toy", "Apache-2.0", "toy.pt", len(content), digested, (Address(source.as_uri()),))


def _fetch(tools: Tools, folder: Path) -> None:
    fetch(_weights(tools), folder=folder / "cache")


def _fetched(tools: Tools, folder: Path) -> Digests:
    return {"toy.pt": file_digest(folder / "cache" / "toy.pt")}


PLACES: dict[str, Place] = {
    "training-transformer": Place("the transformer's training", _transformer, _transformer_data),
    "training-segmenter": Place("the segmenter's training", _segmenter, _segmenter_data),
    "training-autoencoder": Place("the autoencoder's training", _autoencoder, _autoencoder_data),
    "training-judge": Place("the training of the judge of shapes", _judge, _judge_data),
    "export": Place("a trained model, in the form that ships", _export, _exported, _trained),
    "result": Place("the parts and the result of an experiment", _experiment, _result),
    "bundle": Place("a bundle of results and recordings", _bundle, _bundled, _measured),
    "weights": Place("fetched weights", _fetch, _fetched, lambda tools: _weights(tools) and None),
}
