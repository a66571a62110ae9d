"""Every fault at every place: ``python -m benchmarks.faults`` writes ``results/faults``.

Which faults there are and how they are brought about is in ``tests/faults``; the tests run a part of them. Here all
are, place by place, and a table counts them. An interrupted call goes on with the next place.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from tqdm.auto import tqdm

from refam_analysis.experiments.provenance import RESULTS, ROOT, Parts, Result, Stopwatch, write_result
from refam_analysis.files import written_whole

sys.path.insert(0, str(ROOT / "tests"))
from faults.asking import outcomes  # noqa: E402
from faults.kinds import KINDS, group_of  # noqa: E402
from faults.table import ALL, PLACES, TESTED, Fault  # noqa: E402

NAME = "faults"
MODULE = "benchmarks.faults"
TABLE = "faults.md"

app = typer.Typer(add_completion=False, help=__doc__)


def by_place(faults: Sequence[Fault], parts: Parts) -> list[pd.DataFrame]:
    """A table a place with a row a fault: what became of it. One server brings about all that are not kept yet.

    Args:
        faults: of which.
        parts: keeps the tables of places that are done.
    """
    waiting = [fault for fault in faults if not (parts.folder / f"{fault.place}.parquet").is_file()]
    waiting.sort(key=lambda fault: list(PLACES).index(fault.place))
    coming = iter(tqdm(outcomes(waiting), total=len(waiting), desc="faults", mininterval=5))
    numbers = Counter(fault.place for fault in faults)
    return [parts.keep(place, lambda place=place: _table(islice(coming, numbers[place]))) for place in PLACES]


def summary(faults: pd.DataFrame) -> pd.DataFrame:
    """How many faults of each group there are at each place, and how many came to the data of an undisturbed run.

    Args:
        faults: the tables of :func:`by_place`, under one another.

    Returns:
        A row a place and group: ``place``, ``group``, ``faults``, ``sound``, ``told`` (ended or refused in a sentence).
    """
    applied = faults[faults["applies"]]
    told = (applied["fault"] == "told") | (applied["again"] == "told")
    counted = applied.assign(faults=1, told=told).groupby(["place", "group"], sort=False)
    return counted[["faults", "sound", "told"]].sum().astype(int).reset_index()


def as_markdown(result: Result) -> str:
    """The counts as a table: places down, groups across, "sound of all" in each cell."""
    counts, faults = result["summary"], result["faults"]
    groups = list(dict.fromkeys(group_of(kind) for kind in KINDS.values()))
    lines = [f"| what is written | {' | '.join(groups)} | all |", "| --- |" + " --- |" * (len(groups) + 1)]
    for place, description in PLACES.items():
        rows = counts[counts["place"] == place].set_index("group")
        cells = [_cell(rows.loc[[group]]) if group in rows.index else "" for group in groups]
        lines.append(f"| {description.says} | {' | '.join(cells)} | {_cell(rows)} |")
    columns = [_cell(counts[counts["group"] == group]) for group in groups]
    lines.append(f"| **all** | {' | '.join(columns)} | {_cell(counts)} |")
    applied = faults[faults["applies"]]
    endings = Counter(zip(applied["fault"], applied["again"], strict=True))
    said = [f"- the disturbed run {_FIRST[first]}, the next start {_AGAIN[again]}: {number}"
            for (first, again), number in endings.most_common()]  # fmt: skip
    return "\n".join([*lines, "", "How they ended:", "", *said]) + "\n"


_FIRST = {
    "killed": "was killed", "told": "ended with a sentence", "finished": "finished", "crashed": "crashed",
    "hung": "hung", "": "was not disturbed itself",
}  # fmt: skip
_AGAIN = {
    "finished": "finished", "told": "named what was damaged, and what was done anew", "crashed": "crashed",
    "hung": "hung", "killed": "was killed", "": "never came",
}  # fmt: skip


@app.command()
def run(
    tested: Annotated[bool, typer.Option("--tested", help="Only those that the tests bring about.")] = False,
    results: Annotated[Path, typer.Option(help="Folder of results.")] = RESULTS,
) -> None:
    """Bring the faults about, write the result and print the table."""
    watch, chosen = Stopwatch(), TESTED if tested else ALL
    configuration: dict[str, Any] = {
        "faults": [str(fault) for fault in chosen], "kinds": {name: kind.says for name, kind in KINDS.items()}
    }  # fmt: skip
    parts = Parts(results.parent / ".cache", NAME, configuration)
    faults = pd.concat(by_place(chosen, parts), ignore_index=True)
    provenance = watch.provenance(f"python -m {MODULE}{' --tested' if tested else ''}", configuration, {})
    result = write_result(NAME, {"faults": faults, "summary": summary(faults)}, provenance, results=results)
    with written_whole(results / NAME / TABLE) as file:
        file.write_text(as_markdown(result), encoding="utf-8")
    parts.forget()
    print(as_markdown(result))


def _table(outcomes: Iterable[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame([_row(outcome) for outcome in outcomes])


def _row(outcome: dict[str, Any]) -> dict[str, Any]:
    """An outcome as a row, without tracebacks' and sentences' paths, which differ from run to run."""
    kind = KINDS[outcome["kind"]]
    lists = {name: ", ".join(outcome.pop(name)) for name in ("differs", "left")}
    said = {name: _without_folder(outcome.pop(name), outcome) for name in ("said", "said_again")}
    return {**outcome, **said, **lists, "group": group_of(kind), "kind_says": kind.says}


def _without_folder(said: str, outcome: dict[str, Any]) -> str:
    """What was said with paths from the job's folder on."""
    folder = str(Fault(outcome["place"], outcome["kind"]))
    words = [word.partition(f"{folder}/")[2] if f"{folder}/" in word else word for word in said.split(" ")]
    return re.sub(r"\S*/refam-faults-\w+/", "", " ".join(words))


def _cell(rows: pd.DataFrame) -> str:
    sound, number = int(rows["sound"].sum()), int(rows["faults"].sum())
    return f"{number}" if sound == number else f"{sound} of {number}"


if __name__ == "__main__":
    app()
