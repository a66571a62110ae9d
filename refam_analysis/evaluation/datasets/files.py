"""Reading files of a data set, from a disk or from object storage, and saying which one is broken.

A root that has a scheme ("s3://bucket/coco") is read through fsspec; everything else is a path of this machine.
"""

from __future__ import annotations

import errno
import gc
import io
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refam_analysis.evaluation.datasets.problems import DatasetFileError, DatasetItemError


def join(*parts: str) -> str:
    """A path below another, on a disk or in object storage.

    >>> join("s3://bucket/coco/", "train2014", "a.jpg")
    's3://bucket/coco/train2014/a.jpg'
    """
    first, *rest = parts
    return "/".join([first.rstrip("/") or "/", *rest]) if rest else first


def is_plain_name(name: object) -> bool:
    """Whether a name that a release gives is a file's in its folder, and leads nowhere else.

    >>> is_plain_name("00005"), is_plain_name("../../etc/passwd")
    (True, False)
    """
    return isinstance(name, str) and not set("/\\\0") & set(name) and name not in ("", ".", "..")


def above(path: str) -> str:
    """The folder that a file or folder is in.

    >>> above("s3://bucket/coco/refcoco")
    's3://bucket/coco'
    """
    return path.rstrip("/").rsplit("/", 1)[0] if "://" in path else os.path.dirname(os.path.abspath(path))


def names_in(folder: str) -> frozenset[str]:
    """The names of what a folder holds; none where there is no such folder.

    Raises:
        DatasetFileError: it cannot be read.
    """
    try:
        if "://" not in folder:
            return frozenset(os.listdir(folder))
        from fsspec.core import url_to_fs

        system, path = url_to_fs(folder)
        return frozenset(str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in system.ls(path, detail=False))
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # what no disk could hold is not there
            return frozenset()
        raise DatasetFileError(folder, f"it cannot be read ({error})") from error


def exists(path: str) -> bool:
    """Whether there is such a file or folder."""
    if "://" not in path:
        return os.path.exists(path)
    from fsspec.core import url_to_fs

    system, inner = url_to_fs(path)
    return bool(system.exists(inner))


def first_existing(root: str, *candidates: str) -> str | None:
    """The first of several places below a root at which there is something; None where there is nothing at any."""
    paths = (join(root, place) if place else root for place in candidates)
    return next((path for path in paths if exists(path)), None)


def read_bytes(path: str) -> bytes:
    """All of a file.

    Raises:
        DatasetFileError: it is missing, or cannot be read.
    """
    try:
        if "://" not in path:
            with open(path, "rb") as file:
                return file.read()
        import fsspec

        with fsspec.open(path, "rb") as file:
            return bytes(file.read())
    except FileNotFoundError:
        raise DatasetFileError(path, "there is no such file", "Check the root, or fetch the release.") from None
    except OSError as error:
        raise DatasetFileError(path, f"it cannot be read ({error})") from error


def read_json(path: str) -> Any:
    """What a JSON file holds.

    Raises:
        DatasetFileError: it is missing, cut, or no JSON.
    """
    data = read_bytes(path)
    try:
        with no_collection():
            return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DatasetFileError(path, f"it is cut, or no JSON ({error})") from error


@contextmanager
def no_collection() -> Iterator[None]:
    """Do not look for cycles while millions of lists and dictionaries without any are made: it takes half the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def read_text(path: str) -> str:
    """A text in UTF-8, or else in Latin-1, as some releases mix them."""
    data = read_bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_picture(path: str, item: str, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The pixels of a picture, as they are stored: benchmarks annotate them without turning by EXIF.

    Args:
        path: of the file.
        item: what an error calls it.
        size: height and width that it must have.

    Returns:
        RGB, (height, width, 3).

    Raises:
        DatasetItemError: it is missing, cut, no picture, or of another size.
    """
    picture = _decoded(path, item)
    try:
        pixels = np.asarray(picture.convert("RGB"))
    except ValueError as error:
        raise DatasetItemError(path, item, f"its mode is {picture.mode}, which cannot be made RGB") from error
    _check_size(path, item, pixels.shape[:2], size)
    return pixels


def read_labels(path: str, item: str, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """The numbers of objects in a mask file: a PNG with a palette, whose indices they are, or in gray.

    Args are those of :func:`read_picture`.

    Returns:
        (height, width); 0 is the background.

    Raises:
        DatasetItemError: it is missing, cut, in colour, or of another size.
    """
    picture = _decoded(path, item)
    if picture.mode not in ("P", "L", "1"):
        reason = f"its mode is {picture.mode}, not a palette whose indices number the objects"
        raise DatasetItemError(path, item, reason)
    labels = np.asarray(picture).astype(np.uint8)
    _check_size(path, item, labels.shape, size)
    return labels


def picture_size(path: str, item: str) -> tuple[int, int]:
    """Height and width of a picture, from its header.

    Raises:
        DatasetItemError: it is missing or no picture.
    """
    width, height = _opened(path, item).size
    return height, width


@dataclass(frozen=True)
class FilePicture:
    """A picture in a file.

    Attributes:
        path: of the file, on a disk or in object storage.
        item: what an error calls it, such as "image 581857".
        size: height and width, by the annotations.
    """

    path: str
    item: str
    size: tuple[int, int]

    def load(self) -> NDArray[np.uint8]:
        """RGB, (height, width, 3); errors as in :func:`read_picture`."""
        return read_picture(self.path, self.item, self.size)


@dataclass(frozen=True)
class FileFrames:
    """The frames of a clip, a file each.

    Attributes:
        folder: of the frames.
        names: of the frames, without their suffix, in the order of time.
        item: what an error calls the clip, such as "video blackswan".
        suffix: of the files.
    """

    folder: str
    names: tuple[str, ...]
    item: str
    suffix: str = ".jpg"

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width, from the header of the first frame."""
        return picture_size(self.path(0), self.label(0))

    def path(self, i: int) -> str:
        """Of the file of frame ``i``."""
        return join(self.folder, self.names[i] + self.suffix)

    def label(self, i: int) -> str:
        """What an error calls frame ``i``."""
        return f"{self.item}, frame {self.names[i]}"

    def load(self, i: int) -> NDArray[np.uint8]:
        """Frame ``i``: RGB, (height, width, 3); errors as in :func:`read_picture`."""
        return read_picture(self.path(i), self.label(i), self.size)


def _opened(path: str, item: str) -> Image.Image:
    try:
        data = read_bytes(path)
    except DatasetFileError as error:
        raise DatasetItemError(path, item, error.problem.reason) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data))
    except Exception as error:
        raise DatasetItemError(path, item, f"it is no picture ({_first_line(error)})") from error


def _decoded(path: str, item: str) -> Image.Image:
    picture = _opened(path, item)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture.load()
    except Exception as error:
        # Pillow's decoders raise whatever they meet: OSError, SyntaxError, ValueError, struct.error, zlib.error.
        raise DatasetItemError(path, item, f"its pixels are cut or broken ({_first_line(error)})") from error
    return picture


def _first_line(error: Exception) -> str:
    """Without what changes from run to run, such as the address of a buffer."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return "the format is not known" if "BytesIO object" in text else text


def _check_size(path: str, item: str, found: tuple[int, ...], wanted: tuple[int, int] | None) -> None:
    if wanted is not None and tuple(found) != tuple(wanted):
        sizes = f"it is {found[0]} x {found[1]} pixels (height x width), {wanted[0]} x {wanted[1]} were expected"
        raise DatasetItemError(path, item, sizes)
