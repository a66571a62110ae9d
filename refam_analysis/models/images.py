"""Images: whatever the caller has becomes one RGB picture, or an error that says why not.

No model is known here, and nothing is resized: that is the model's business.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from refam_analysis.errors import RefamError

ImageSource = str | Path | Image.Image | np.ndarray | torch.Tensor
"""What :func:`load_image` makes a picture of: a path, a Pillow image, an array or a tensor."""

MIN_SIDE = 8
"""Pixels. A smaller picture has less than one token of any model and nothing to point at."""
MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 89_478_485
"""Pillow's own limit, 89 million: a file that unpacks to more is taken for a decompression bomb."""

_DEEP_GRAY = frozenset(("I;16", "I;16B", "I;16L", "I;16N", "I"))
_TRANSPARENT = frozenset(("RGBA", "LA", "PA", "RGBa", "La"))


class ImageError(RefamError, ValueError):
    """An image that cannot be used."""


class UnreadableImageError(ImageError):
    """No picture could be read from the file."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"The image {str(path)!r} cannot be read: {reason}. Give a PNG, JPEG, WebP or TIFF file.")


class ImageSizeError(ImageError):
    """The picture is empty, too small or too large."""

    def __init__(self, width: int, height: int) -> None:
        wanted = f"at least {MIN_SIDE} pixels a side and at most {MAX_PIXELS:,} pixels in all"
        super().__init__(f"The image is {width} x {height} pixels (width x height). Give one of {wanted}.")


class ImageValueError(ImageError):
    """The numbers, their type or their shape are not those of a picture."""


def load_image(source: ImageSource) -> Image.Image:
    """Read one picture.

    The orientation that a camera wrote into the file (EXIF) is applied. Transparency is laid on white. Palettes, gray
    and CMYK become RGB without a colour profile. 16-bit gray (Pillow's modes I;16 and I) is brought to 8 bits
    linearly: 65535 becomes 255. Of an animation the first frame is read.

    Args:
        source: path of a file, a Pillow image, a numpy array (height, width), (height, width, 1), (height, width, 3) or
            (height, width, 4), or a torch tensor of these shapes or with channels first (a tensor that could be read
            both ways is taken to have its channels first). Arrays are uint8 in [0, 255], uint16 in [0, 65535], bool,
            or floating point in [0, 1].

    Returns:
        Mode RGB, without metadata; a copy.

    Raises:
        UnreadableImageError: no such file, empty, cut short, or no picture.
        ImageSizeError: a side under 8 pixels, or more than 89 million pixels (a decompression bomb).
        ImageValueError: not finite, out of range, or of another type or shape.

    >>> load_image(np.zeros((32, 48, 3), np.uint8)).size
    (48, 32)
    """
    if isinstance(source, (str, Path)):
        return _read(Path(os.path.expanduser(source)))
    if isinstance(source, Image.Image):
        return _to_rgb(source)
    if isinstance(source, torch.Tensor):
        source = _channels_last(source.detach().cpu())
    if isinstance(source, np.ndarray):
        return Image.fromarray(_to_bytes(source))
    raise ImageValueError(
        f"An image cannot be made of a {type(source).__name__}. Give a path, a Pillow image, a numpy array or a tensor."
    )


def _read(path: Path) -> Image.Image:
    if not os.path.isfile(path):
        raise UnreadableImageError(path, "it is a folder" if os.path.isdir(path) else "there is no such file")
    if path.stat().st_size == 0:
        raise UnreadableImageError(path, "the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a large picture, and of odd metadata
            with Image.open(path) as image:
                return _to_rgb(image)
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(path, f"it unpacks to more than {MAX_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError(path, "it is no picture that Pillow knows") from error
    except RefamError:
        raise
    except Exception as error:
        # Pillow's decoders raise whatever they meet: OSError, SyntaxError, ValueError, struct.error, zlib.error.
        raise UnreadableImageError(path, str(error).rstrip(".") or type(error).__name__) from error


def _to_rgb(image: Image.Image) -> Image.Image:
    _check_size(*image.size)  # before the pixels are unpacked
    image = ImageOps.exif_transpose(image)
    if image.mode in _DEEP_GRAY or image.mode == "F":
        return Image.fromarray(_to_bytes(_gray_array(image)))
    try:
        if image.mode in _TRANSPARENT or "transparency" in image.info:
            picture = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        return _without_metadata(image.convert("RGB"))
    except ValueError as error:
        raise ImageValueError(f"A picture of mode {image.mode} cannot be made RGB. Convert it first.") from error


def _without_metadata(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.array(image))


def _gray_array(image: Image.Image) -> np.ndarray:
    """16-bit gray as uint16, or floating-point gray as it is."""
    values = np.asarray(image)
    if image.mode == "F":
        return values
    if values.min() < 0 or values.max() > 65535:
        raise ImageValueError(f"The gray values lie in [{values.min()}, {values.max()}]. Give 16 bits: 0 to 65535.")
    return values.astype(np.uint16)


def _check_size(width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE or width * height > MAX_PIXELS:
        raise ImageSizeError(width, height)


def _channels_last(tensor: torch.Tensor) -> np.ndarray:
    array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return np.moveaxis(array, 0, -1) if array.ndim == 3 and array.shape[0] in (1, 3, 4) else array


def _to_bytes(array: np.ndarray) -> np.ndarray:
    """uint8 RGB, (height, width, 3)."""
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ImageValueError(f"An array of shape {array.shape} is no picture. Give one picture: (height, width, 3).")
    _check_size(array.shape[1], array.shape[0])
    values = _to_unit_range(array)
    if values.shape[2] == 4:
        values = values[:, :, :3] * values[:, :, 3:] + (1 - values[:, :, 3:])
    return np.round(np.repeat(values, 3, axis=2) * 255 if values.shape[2] == 1 else values * 255).astype(np.uint8)


def _to_unit_range(array: np.ndarray) -> np.ndarray:
    """Float64 in [0, 1]."""
    if array.dtype == np.bool_:
        return array.astype(np.float64)
    if array.dtype in (np.uint8, np.uint16):
        return array / np.iinfo(array.dtype).max
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageValueError(
            f"Pixels of type {array.dtype} are ambiguous. Give uint8 in [0, 255] or floats in [0, 1]."
        )
    if not np.isfinite(array).all():
        raise ImageValueError(f"{(~np.isfinite(array)).sum()} values of the image are NaN or infinite. Replace them.")
    low, high = float(array.min()), float(array.max())
    if low < -1e-6 or high > 1 + 1e-6:
        raise ImageValueError(f"Floating-point pixels lie in [{low:g}, {high:g}]. Scale them to [0, 1].")
    return array.astype(np.float64).clip(0, 1)
