"""Files that are there whole or not at all, whenever the process is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A place to write to, which becomes the file at the end of the block.

    Args:
        path: of the file; one that is there already is replaced.

    Yields:
        A path in the same folder, ``.<name>.partial``. It stays behind where the block fails, and the file as it was.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "about.json"
    ...     with written_whole(path) as place:
    ...         print(place.name, place.write_text("{}"), path.exists())
    ...     path.read_text()
    .about.json.partial 2 False
    '{}'
    """
    partial = path.with_name(f".{path.name}.partial")
    yield partial
    os.replace(partial, path)
