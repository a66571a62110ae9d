"""The picture of a probe: a drawn scene, or one from a file or an upload, checked before it is decoded.

An upload comes from a stranger. Its type is told by its content and never by its name, and its size in bytes and in
pixels is known and within limits before a pixel of it is unpacked. Nothing here draws, and no model is known.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from refam_analysis.errors import RefamError
from refam_analysis.models.images import MIN_SIDE, ImageError, ImageSource, load_image
from refam_analysis.scenes import SceneOptions, Scenes, SceneSample

MAX_UPLOAD_BYTES = 8 * 2**20
"""Of a picture's file."""
MAX_UPLOAD_PIXELS = 24_000_000
"""Of a picture before it is made smaller: what a good camera gives, and 72 MB once unpacked."""
LONGEST_SIDE = 1024
"""Pixels. A larger picture is made smaller, with its shape kept: models see less, and browsers show less."""
SCENES = 10_000
"""Scenes that can be chosen by number."""

_SIGNATURES = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff", "WEBP": b"RIFF"}
_LONGEST_NAME = 60


class PictureError(RefamError, ValueError):
    """A picture that a probe does not take."""


class SceneChoiceError(RefamError, ValueError):
    """A scene that cannot be drawn."""


@dataclass(frozen=True)
class SceneChoice:
    """A scene of the test split, by number and by what should be in it.

    Attributes:
        number: which of them, from 0 to 9,999.
        objects: how many there are, from 1 to 6.
        occlusion: probability that an object may stand partly in front of another, in [0, 1].
        shared_attribute: two objects share their colour or their shape; needs at least two.

    >>> SceneChoice(number=7, objects=2).sample().image.shape
    (96, 96, 3)
    """

    number: int = 0
    objects: int = 3
    occlusion: float = 0.0
    shared_attribute: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.number < SCENES:
            raise SceneChoiceError(f"Scene {self.number} does not exist: give a number from 0 to {SCENES - 1}.")
        if self.shared_attribute and self.objects < 2:
            raise SceneChoiceError("One object alone shares nothing: choose two objects or more, or switch it off.")

    @property
    def options(self) -> SceneOptions:
        """What to draw, as the data set takes it."""
        return SceneOptions((self.objects, self.objects), self.occlusion, self.shared_attribute)

    def sample(self) -> SceneSample:
        """The picture with everything that is true of it."""
        return Scenes("test", length=SCENES, options=self.options)[self.number]


@dataclass(frozen=True)
class Picture:
    """A picture that can be asked about. Two with the same pixels are equal.

    Attributes:
        key: tells its pixels from all others'.
        pixels: mode RGB, at most :data:`LONGEST_SIDE` along each side.
        title: what it is, for a reader.
        scene: what it was drawn from; None where it was not.
        sample: the drawn scene with its masks and expressions; None likewise.
    """

    key: str
    pixels: Image.Image = field(repr=False, compare=False)
    title: str = field(compare=False)
    scene: SceneChoice | None = field(default=None, compare=False)
    sample: SceneSample | None = field(default=None, repr=False, compare=False)

    @property
    def expressions(self) -> tuple[str, ...]:
        """Sentences that are true of one object; none where the picture was not drawn here."""
        return tuple(one.text for one in self.sample.expressions) if self.sample else ()

    def truth(self, expression: str) -> NDArray[np.bool_] | None:
        """The mask, bool (height, width), of the object that one of :attr:`expressions` refers to; None for others."""
        found = [one for one in self.sample.expressions if one.text == expression] if self.sample else []
        return self.sample.masks[found[0].target] if self.sample and found else None

    def png(self) -> bytes:
        """The pixels as a file, without loss."""
        written = BytesIO()
        self.pixels.save(written, format="PNG")
        return written.getvalue()


def drawn(choice: SceneChoice) -> Picture:
    """The picture of a scene."""
    sample = choice.sample()
    things = "1 object" if choice.objects == 1 else f"{choice.objects} objects"
    return _picture(Image.fromarray(sample.image), f"Scene {choice.number} with {things}", choice, sample)


def given(image: ImageSource) -> Picture:
    """A picture that the caller has.

    Raises:
        ImageError: it cannot be used.
    """
    return _picture(load_image(image), Path(image).name if isinstance(image, str | Path) else "Picture")


def opened(path: str | Path) -> Picture:
    """A picture of this machine, with the limits of an upload.

    Raises:
        PictureError: no such file, or one of the reasons of :func:`uploaded`.
    """
    file = Path(os.path.expanduser(path))
    if not os.path.isfile(file):
        raise PictureError(f"There is no file {str(file)!r}: give the path of a PNG, JPEG or WebP picture.")
    _check_bytes(file.stat().st_size, _shown(file.name))
    try:
        content = file.read_bytes()
    except OSError as error:
        raise PictureError(f"{str(file)!r} cannot be read ({error.strerror}): choose another file.") from error
    return uploaded(content, file.name)


def uploaded(content: bytes, name: str = "upload") -> Picture:
    """A picture from the bytes of its file.

    The orientation that a camera wrote into it is applied. Of an animation the first frame is taken.

    Args:
        content: of a PNG, JPEG or WebP file.
        name: of the file, for messages alone.

    Raises:
        PictureError: too many bytes or pixels, another type, or broken; the sentence says which.
    """
    shown = _shown(name)
    _check_bytes(len(content), shown)
    kind = next((kind for kind, start in _SIGNATURES.items() if content.startswith(start)), None)
    if kind is None or (kind == "WEBP" and content[8:12] != b"WEBP"):
        raise PictureError(
            f"{shown!r} is no PNG, JPEG or WebP picture, whatever its name says: save it as one of these."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a large picture, which is refused below, and of odd metadata
            with Image.open(BytesIO(content), formats=[kind]) as image:
                _check_pixels(*image.size, shown)
                return _picture(load_image(image), shown)
    except Image.DecompressionBombError as error:
        raise PictureError(_too_many_pixels(shown, "far more")) from error
    except ImageError as error:
        raise PictureError(f"{shown!r} cannot be used: {error}") from error
    except PictureError:
        raise
    except (OSError, SyntaxError, EOFError, ValueError) as error:
        raise PictureError(f"{shown!r} is broken ({error}): save it again, or choose another picture.") from error


def _picture(
    pixels: Image.Image, title: str, scene: SceneChoice | None = None, sample: SceneSample | None = None
) -> Picture:
    size = pixels.size
    if max(size) > LONGEST_SIDE:
        scale = LONGEST_SIDE / max(size)
        smaller = (max(MIN_SIDE, round(size[0] * scale)), max(MIN_SIDE, round(size[1] * scale)))
        pixels = pixels.resize(smaller, Image.Resampling.LANCZOS)
        title = f"{title}, made smaller from {size[0]} x {size[1]} to {smaller[0]} x {smaller[1]} pixels"
    summed = hashlib.sha256(repr(pixels.size).encode())
    summed.update(pixels.tobytes())
    return Picture(summed.hexdigest(), pixels, title, scene, sample)


def _check_bytes(number: int, name: str) -> None:
    if number == 0:
        raise PictureError(f"{name!r} is empty: choose another picture.")
    if number > MAX_UPLOAD_BYTES:
        raise PictureError(
            f"{name!r} has {number / 2**20:.1f} MiB, and at most {MAX_UPLOAD_BYTES // 2**20} are taken: "
            "save it smaller, or as a JPEG."
        )


def _check_pixels(width: int, height: int, name: str) -> None:
    if width * height > MAX_UPLOAD_PIXELS:
        raise PictureError(_too_many_pixels(name, f"{width} x {height}"))


def _too_many_pixels(name: str, number: str) -> str:
    limit = MAX_UPLOAD_PIXELS // 1_000_000
    return f"{name!r} unpacks to {number} pixels, and at most {limit} million are taken: make it smaller first."


def _shown(name: str) -> str:
    """The last part of a file's name, without what cannot be seen."""
    last = "".join(character for character in Path(name.replace("\\", "/")).name if character.isprintable())
    return last if len(last) <= _LONGEST_NAME else f"{last[: _LONGEST_NAME - 1]}…"
