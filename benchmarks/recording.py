"""What recording costs: ``python -m benchmarks.recording run`` measures it and writes ``results/recording-cost``.

Time is measured in interleaved rounds, as ratios to the plain forward pass of the same round; memory in a process of
its own for each variant; both for a FLUX-shaped transformer with random weights, on a GPU in all of FLUX.1's real
geometry. On two cores it takes about half an hour and wants the machine for itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from enum import StrEnum
from functools import partial
from typing import Annotated, Any

import pandas as pd
import torch
import typer

from benchmarks.measure import in_own_process, interleaved, peak_of, ratios
from benchmarks.package import PACKAGE_VARIANTS, make_joint_subject
from benchmarks.variants import VARIANTS, Geometry, make_subject, streamed
from refam_analysis.experiments.provenance import Result, Stopwatch, load_result, write_result

NAME = "recording-cost"
SIZES = {
    "cpu": {1536: Geometry(), 2560: Geometry(text=535, side=45)},
    "cuda": {
        1536: Geometry(double=19, single=38, heads=24),
        4608: Geometry(double=19, single=38, heads=24, side=64),
    },
}
"""Geometries by device and number of tokens; for SD3 all blocks are joint ones."""

SCALING = (512, 1024, 2048, 4096, 8192)
SCALED = ["plain", "maps", "maps, softmax in chunks", "maps, whole softmax", "summaries", "summaries, whole softmax"]
MODULE = "benchmarks.recording"

app = typer.Typer(add_completion=False, help=__doc__)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _dtype() -> torch.dtype:
    return torch.bfloat16 if _device() == "cuda" else torch.float32


def _scaled(tokens: int) -> Geometry:
    """A third of the tokens are text; two blocks, so that the longest sequence takes seconds."""
    side = round((tokens * 2 / 3) ** 0.5)
    return Geometry(double=1, single=1, text=tokens - side**2, side=side)


class Study(StrEnum):
    """Which transformer is measured: the FLUX-shaped one, two blocks of it by length, or SD3."""

    COSTS = "costs"
    SCALING = "scaling"
    PACKAGE = "package"


def _studied(tokens: int, study: Study) -> tuple[Any, Mapping[str, Callable[[Any], object]]]:
    """The subject of a study, and its variants by name."""
    geometry = _scaled(tokens) if study is Study.SCALING else SIZES[_device()][tokens]
    make = make_joint_subject if study is Study.PACKAGE else make_subject
    variants = PACKAGE_VARIANTS if study is Study.PACKAGE else {**VARIANTS, "full to disk": streamed}
    return make(geometry, device=_device(), dtype=_dtype()), variants


@app.command()
def peak(tokens: int, variant: str, study: Study = Study.COSTS) -> None:
    """Print the peak memory of one variant as JSON; meant for a process of its own."""
    subject, variants = _studied(tokens, study)
    subject.run()
    print(json.dumps({"peak": peak_of(lambda: variants[variant](subject))}))


def _measured(tokens: int, names: Sequence[str], rounds: int, study: Study = Study.COSTS) -> pd.DataFrame:
    """Time and memory of some variants at one size, with the bytes that what is kept takes."""
    subject, variants = _studied(tokens, study)
    works = {name: partial(variants[name], subject) for name in names}
    table = ratios(interleaved(works, rounds=rounds), against="plain").merge(_peaks(tokens, names, study), on="name")
    return table.assign(tokens=tokens, kept=[_kept(subject.geometry, name) for name in table["name"]])


def _peaks(tokens: int, names: Sequence[str], study: Study = Study.COSTS) -> pd.DataFrame:
    """Each variant's peak in bytes, and what it exceeds the plain pass by."""
    found = {name: in_own_process(MODULE, "peak", str(tokens), name, "--study", study)["peak"] for name in names}
    plain = found["plain"]
    rows = [{"name": name, "peak": peak, "extra": peak - plain} for name, peak in found.items()]
    return pd.DataFrame(rows)


def _kept(geometry: Geometry, name: str) -> int:
    """Bytes of what a variant of ours keeps, float32."""
    pairs = geometry.text * geometry.side**2
    a_head = {"maps": 2 * pairs, "summaries": 5 * geometry.tokens, "full to disk": geometry.tokens**2}
    numbers = sum(size for kept, size in a_head.items() if kept in name)
    return 4 * numbers * geometry.heads * (geometry.double + geometry.single)


def _streaming(tokens: int, rounds: int) -> pd.DataFrame:
    """The whole attention to disk: seconds, beside a plain pass and beside writing as many bytes plainly."""
    subject, _ = _studied(tokens, Study.COSTS)
    size = _kept(subject.geometry, "full to disk")
    works = {"plain": subject.run, "full to disk": lambda: streamed(subject), "plain write": lambda: _write(size)}
    table = ratios(interleaved(works, rounds=rounds), against="plain")
    return table.merge(_peaks(tokens, ["plain", "full to disk"]), on="name", how="left").assign(
        tokens=tokens, kept=size
    )


def _write(size: int) -> None:
    """As many bytes as the attention has, in pieces of 8 MiB, synchronised at the end."""
    piece, path = os.urandom(2**23), ".benchmark-bytes"
    try:
        with open(path, "wb") as file:
            for start in range(0, size, len(piece)):
                file.write(piece[: size - start])
            file.flush()
            os.fsync(file.fileno())
    finally:
        os.unlink(path)


@app.command()
def run(
    rounds: Annotated[int, typer.Option(help="Rounds for each size.")] = 15,
    scaling_rounds: Annotated[int, typer.Option(help="Rounds for each number of tokens of the scaling plot.")] = 7,
) -> None:
    """Measure everything, write the result and print the table."""
    watch, sizes = Stopwatch(), SIZES[_device()]
    tables = {
        "costs": [_measured(tokens, list(VARIANTS), rounds) for tokens in sizes],
        "package": [_measured(tokens, list(PACKAGE_VARIANTS), rounds, Study.PACKAGE) for tokens in sizes],
        "streaming": [_streaming(tokens, max(3, rounds // 3)) for tokens in sizes],
        "scaling": [_measured(tokens, SCALED, scaling_rounds, Study.SCALING) for tokens in SCALING],
    }
    configuration: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if _device() == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "dtype": str(_dtype()),
        "rounds": rounds,
        "scaling_rounds": scaling_rounds,
        "geometries": {tokens: asdict(geometry) for tokens, geometry in sizes.items()},
    }
    command = f"python -m {MODULE} run --rounds {rounds} --scaling-rounds {scaling_rounds}"
    provenance = watch.provenance(command, configuration, weights={})
    result = write_result(
        _name(),
        {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()},
        provenance,
    )
    shown = {"ratio": "{:.3f}".format, "low": "{:.3f}".format, "high": "{:.3f}".format, "seconds": "{:.2f}".format}
    for title, table in result.tables.items():
        print(f"\n{title}\n{table.to_string(index=False, formatters=shown)}")


@app.command()
def memory() -> None:
    """Measure the memory anew, which does not need the machine for itself, and put it into the result."""
    watch, result = Stopwatch(), load_result(_name())
    tables = {}
    for title, table in result.tables.items():
        study = Study(title) if title in list(Study) else Study.COSTS
        parts = []
        for tokens, rows in table.groupby("tokens", sort=False):
            measured = [variant for variant in rows["name"] if variant != "plain write"]
            times = rows.drop(columns=["peak", "extra"])
            parts.append(times.merge(_peaks(int(str(tokens)), measured, study), on="name", how="left"))
        tables[title] = pd.concat(parts, ignore_index=True)
    _renew(result, tables, watch, "memory")


@app.command()
def streaming(rounds: Annotated[int, typer.Option(help="Rounds for each size.")] = 7) -> None:
    """Time the whole attention to disk anew, and put it into the result."""
    watch, result = Stopwatch(), load_result(_name())
    parts = [_streaming(tokens, rounds) for tokens in SIZES[_device()]]
    tables = {**result.tables, "streaming": pd.concat(parts, ignore_index=True)}
    _renew(result, tables, watch, "streaming")
    print(tables["streaming"].to_string(index=False))


def _name() -> str:
    return NAME if _device() == "cpu" else f"{NAME}-gpu"


def _renew(result: Result, tables: Mapping[str, pd.DataFrame], watch: Stopwatch, what: str) -> None:
    """Write a result of which a part was measured later, and say so in its provenance."""
    made = asdict(watch.provenance(f"python -m {MODULE} {what}", {}, weights={}))
    later = {**result.provenance.configuration.get("measured_later", {}), what: made}
    configuration = {**result.provenance.configuration, "measured_later": later}
    write_result(_name(), tables, replace(result.provenance, configuration=configuration))


if __name__ == "__main__":
    app()
