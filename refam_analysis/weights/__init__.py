"""Weights: the small ones that ship with the package, and named ones that are fetched when they are asked for.

What there is (`table`), where pip would find a package (`index`), one file from one address (`download`), and from a
name to a checked file (`fetching`). Loading weights is the business of the rooms that use them.
"""

from importlib.resources import files
from pathlib import Path

from refam_analysis.errors import RefamError
from refam_analysis.weights.download import (
    CutDownloadError,
    DiskFullError,
    SourceError,
    WeightsError,
    WrongChecksumError,
)
from refam_analysis.weights.fetching import (
    BrokenWeightsError,
    CacheFolderError,
    NoSourceError,
    NotFetchedError,
    cache_folder,
    fetch,
    is_fetched,
    verify,
)
from refam_analysis.weights.table import WEIGHTS, UnknownWeightsError, WeightsFile, WeightsRepository, find_weights

__all__ = [
    "WEIGHTS",
    "BrokenWeightsError",
    "CacheFolderError",
    "CutDownloadError",
    "DiskFullError",
    "MissingWeightsError",
    "NoSourceError",
    "NotFetchedError",
    "SourceError",
    "UnknownWeightsError",
    "WeightsError",
    "WeightsFile",
    "WeightsRepository",
    "WrongChecksumError",
    "cache_folder",
    "embedded_folder",
    "fetch",
    "find_weights",
    "is_fetched",
    "verify",
]


class MissingWeightsError(RefamError, FileNotFoundError):
    """Weights that should ship with the package are not there."""

    def __init__(self, name: str, folder: Path) -> None:
        super().__init__(
            f"The embedded weights {name!r} are missing: there is no folder {folder}. "
            "Install the package again, or train them with `python -m refam_analysis.training.all`."
        )


def embedded_folder(name: str) -> Path:
    """The folder of one set of embedded weights.

    Args:
        name: "embedded-dit", "embedded-rich", "embedded-video", "embedded-sam", "embedded-rich-sam" or "shape-judge".

    Returns:
        The folder, which is there.

    Raises:
        MissingWeightsError: the package was installed, or checked out, without them.

    >>> embedded_folder("embedded-cat")
    Traceback (most recent call last):
    ...
    refam_analysis.weights.MissingWeightsError: The embedded weights 'embedded-cat' are missing: there is no ...
    """
    folder = Path(str(files("refam_analysis.weights"))) / "data" / name
    if not folder.is_dir():
        raise MissingWeightsError(name, folder)
    return folder
