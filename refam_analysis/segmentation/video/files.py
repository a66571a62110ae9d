"""Clips in and out: frames from an array, a list, a folder or a video file; masks as indexed PNGs; overlay videos.

Frames are read one after the other and never all held. Video files are read and written by PyAV, which is imported
where it is used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from refam_analysis.errors import RefamError
from refam_analysis.files import written_whole
from refam_analysis.models.images import ImageSource, load_image
from refam_analysis.segmentation.video.propagation import FrameSizeError

Frame = NDArray[np.uint8]
FrameSource = str | Path | NDArray[Any] | Sequence[ImageSource]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
_OVERLAY = np.array([213, 94, 0], dtype=np.float64)
_STRENGTH = 0.55


class FramesError(RefamError, ValueError):
    """What was given holds no clip."""


class UnreadableVideoError(FramesError):
    """A video file cannot be read."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The video {str(path)!r} cannot be read: {reason}. Give a file that ffmpeg plays, or a folder of pictures."
        )


class VideoOutputError(RefamError, OSError):
    """An overlay video cannot be written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The video {str(path)!r} cannot be written: {reason}. Give another path, such as one that ends in .mp4."
        )


@runtime_checkable
class Frames(Protocol):
    """A clip that is read frame by frame, as often as wanted."""

    name: str

    def __len__(self) -> int:
        """Number of frames."""

    def read(self, start: int = 0) -> Iterator[Frame]:
        """The frames from one on, in order, each uint8 (height, width, 3), RGB, all of one size.

        Raises:
            FrameSizeError: one has another size.
            FramesError, ImageError: one cannot be read.
        """


def open_frames(source: FrameSource | Frames) -> Frames:
    """Find out what holds a clip, without reading more than its first frames.

    Args:
        source: an array (frame, height, width, 3), uint8 or floating point in [0, 1]; a list of anything that
            ``load_image`` reads; a folder of pictures, in the order of their names, numbers in them by value; a video
            file; or an opened clip, which is returned as it is.

    Returns:
        The clip: its length, and its frames one after the other.

    Raises:
        FramesError: an empty list, array or folder, an array of another shape, or a video without pictures.
        UnreadableVideoError: no such file, or none that can be read.

    >>> clip = open_frames(np.zeros((3, 8, 9, 3), np.uint8))
    >>> len(clip), next(clip.read(2)).shape
    (3, (8, 9, 3))
    """
    if isinstance(source, (str, Path)):
        path = Path(os.path.expanduser(source))
        if os.path.isdir(path):
            return _Pictures(_pictures_of(path), name=str(path))
        return _VideoFile(path)
    if isinstance(source, np.ndarray):
        if source.ndim != 4 or source.shape[-1] != 3 or 0 in source.shape:
            raise FramesError(f"A clip is an array (frame, height, width, 3); this one is {source.shape}.")
        return _Pictures(source, name="array")
    if isinstance(source, Frames):
        return source
    if not len(source):
        raise FramesError("A clip without frames holds nothing to find: give at least one.")
    return _Pictures(source, name="list")


class _Pictures:
    """A clip of single pictures, read when their turn comes."""

    def __init__(self, pictures: Sequence[ImageSource] | NDArray[Any], *, name: str) -> None:
        self.pictures = pictures
        self.name = name

    def __len__(self) -> int:
        return len(self.pictures)

    def read(self, start: int = 0) -> Iterator[Frame]:
        numbered = ((i, np.array(load_image(self.pictures[i]))) for i in range(start, len(self)))
        return _of_one_size(numbered, first=load_image(self.pictures[0]).size[::-1])


class _VideoFile:
    """A video file. Its frames are counted by decoding it once: what files say of their length is not always so."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)
        if not os.path.isfile(path):
            raise UnreadableVideoError(path, "there is no such file or folder")
        self._size = next(self._decoded()).shape[:2]

    def __len__(self) -> int:
        return self._length

    @cached_property
    def rate(self) -> Fraction:
        """Frames a second, as far as the file says."""
        import av

        with av.open(str(self.path)) as container:
            return Fraction(container.streams.video[0].average_rate or 24)

    @cached_property
    def _length(self) -> int:
        return sum(1 for _ in self._decoded(pixels=False))

    def read(self, start: int = 0) -> Iterator[Frame]:
        numbered = ((i, frame) for i, frame in enumerate(self._decoded(start=start), start))
        return _of_one_size(numbered, first=self._size)

    def _decoded(self, *, start: int = 0, pixels: bool = True) -> Iterator[Frame]:
        """The frames in the order in which they are shown, turned as the camera says."""
        import av

        number = -1
        try:
            with av.open(str(self.path)) as container:
                if not container.streams.video:
                    raise UnreadableVideoError(self.path, "it holds no pictures")
                container.streams.video[0].thread_type = "AUTO"
                for number, frame in enumerate(container.decode(video=0)):
                    if number >= start:
                        yield _upright(frame) if pixels else _NO_PIXELS
        except av.FFmpegError as error:
            raise UnreadableVideoError(self.path, f"{error.strerror} after {number + 1} frames") from error
        if number < 0:
            raise UnreadableVideoError(self.path, "it holds no pictures")


_NO_PIXELS: Frame = np.zeros((1, 1, 3), np.uint8)


def _upright(frame: Any) -> Frame:
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))


def palette() -> list[int]:
    """256 colours, three numbers each, as PASCAL VOC and DAVIS give them to objects: black, dark red, dark green ...

    >>> palette()[:9]
    [0, 0, 0, 128, 0, 0, 0, 128, 0]
    """
    colours = []
    for number in range(256):
        bits = [[(number >> (3 * place + channel)) & 1 for place in range(3)] for channel in range(3)]
        colours += [sum(bit << (7 - place) for place, bit in enumerate(channel)) for channel in bits]
    return colours


def write_mask(mask: ArrayLike, path: Path) -> None:
    """Write a mask as DAVIS does: an indexed PNG, 0 for the background and 1 for the object; all or nothing.

    Args:
        mask: bool (height, width).
        path: of the PNG, which is replaced.
    """
    picture = Image.fromarray(np.asarray(mask, dtype=np.uint8), mode="P")
    picture.putpalette(palette())
    with written_whole(path) as place:
        picture.save(place, format="PNG")


def read_mask(path: Path) -> NDArray[np.bool_]:
    """A mask as :func:`write_mask` wrote it: bool (height, width).

    Args:
        path: of the PNG.

    Returns:
        bool (height, width).
    """
    with Image.open(path) as picture:
        return np.asarray(picture) == 1


def write_overlay(path: str | Path, frames: Frames, masks: Iterable[ArrayLike], *, rate: float = 12.0) -> None:
    """Write a video of the frames with the masks over them, one frame at a time.

    Args:
        path: its ending says the format; .mp4 with H.264 plays everywhere.
        frames: the clip.
        masks: one a frame, bool (height, width).
        rate: frames a second.

    Raises:
        VideoOutputError: the path or its ending cannot be used.
        FramesError, FrameSizeError, ImageError: the clip cannot be read.
    """
    import av

    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream: Any = None
            for frame, mask in zip(frames.read(), masks, strict=True):
                drawn = _even(_with_mask(frame, np.asarray(mask, dtype=bool)))
                if stream is None:
                    stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
                    stream.height, stream.width = drawn.shape[:2]
                    stream.pix_fmt = "yuv420p"
                container.mux(stream.encode(av.VideoFrame.from_ndarray(drawn, format="rgb24")))
            container.mux(stream.encode())
    except RefamError:
        raise  # it is the clip that is wrong, and not where it is written to
    except (av.FFmpegError, ValueError, OSError) as error:
        raise VideoOutputError(path, str(error).rstrip(".")) from error


def _with_mask(frame: Frame, mask: NDArray[np.bool_]) -> Frame:
    tinted = (1 - _STRENGTH) * frame[mask] + _STRENGTH * _OVERLAY
    drawn = frame.copy()
    drawn[mask] = tinted.round().astype(np.uint8)
    return drawn


def _even(frame: Frame) -> Frame:
    """Sides of an even number of pixels, which the codec's half-size colours need: the last row or column twice."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _of_one_size(frames: Iterable[tuple[int, Frame]], *, first: tuple[int, ...]) -> Iterator[Frame]:
    for number, frame in frames:
        if frame.shape[:2] != first:
            raise FrameSizeError(number, frame.shape[:2], first)
        yield frame


def _pictures_of(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES and path.name[0] != "."]
    if not found:
        raise FramesError(f"The folder {str(folder)!r} holds no pictures ({', '.join(PICTURE_SUFFIXES)}).")
    return sorted(found, key=_by_numbers)


def _by_numbers(path: Path) -> list[tuple[int, str]]:
    """Numbers in names by value, so that frame 10 follows frame 9."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]
