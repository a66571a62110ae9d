"""Run the book's notebooks, several at a time, into the cache that the build then reads.

python book/execute.py notebooks/*.ipynb --cache _build/.jupyter_cache

Sphinx runs notebooks one after the other, and each of them leaves a processor idle half of the time. A notebook that
fails here is not kept: the build runs it again, and says by its own rules what is wrong.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated

import nbformat
import typer
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution
from tqdm import tqdm

TIMEOUT = 600
"""Seconds of one cell, as in _config.yml."""


def execute(path: Path, cache: Path) -> str | None:
    """Run a notebook in its own folder and keep it, unless the cache holds it already; what went wrong, if anything.

    Args:
        path: of the notebook, which is left as it is.
        cache: folder of the cache.
    """
    kept = get_cache(cache)
    notebook = nbformat.read(path, as_version=4)
    try:
        kept.match_cache_notebook(notebook)
    except KeyError:
        result = single_nb_execution(notebook, cwd=str(path.parent), timeout=TIMEOUT, allow_errors=False)
        if result.err is not None:
            return f"{path.name}: {type(result.err).__name__}"
        bundle = CacheBundleIn(notebook, str(path), data={"execution_seconds": result.time})
        kept.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    return None


def main(
    notebooks: Annotated[list[Path], typer.Argument(help="What to run.", exists=True, dir_okay=False)],
    cache: Annotated[Path, typer.Option(help="Folder of the cache.")] = Path("_build/.jupyter_cache"),
    processes: Annotated[int, typer.Option(help="How many at a time.", min=1)] = min(4, os.cpu_count() or 1),
) -> None:
    """Run the notebooks that the cache does not hold."""
    get_cache(cache).list_cache_records()  # makes the data base, which several processes must not do at once
    with ProcessPoolExecutor(processes) as pool:
        runs = [pool.submit(execute, path.resolve(), cache.resolve()) for path in notebooks]
        for run in tqdm(as_completed(runs), total=len(runs), desc="notebooks", unit="notebook"):
            if (problem := run.result()) is not None:
                tqdm.write(f"{problem}; the build will run it again and say why.")


if __name__ == "__main__":
    typer.run(main)
