"""Pictures of a probe: what a stranger may upload, and what is refused before it is unpacked."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refam_analysis.scenes import SceneOptions, Scenes
from refam_analysis.widgets.probe_pictures import (
    LONGEST_SIDE,
    MAX_UPLOAD_BYTES,
    PictureError,
    SceneChoice,
    SceneChoiceError,
    drawn,
    given,
    opened,
    uploaded,
)

QUADRANTS = np.zeros((40, 60, 3), np.uint8)
QUADRANTS[:20, :30] = (200, 30, 40)


def file_of(image: Image.Image, kind: str, **options: object) -> bytes:
    written = BytesIO()
    image.save(written, format=kind, **options)
    return written.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """A few bytes whose header promises a picture of this size."""

    return png(struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), zlib.compress(b"\0"))


def bomb(side: int) -> bytes:
    """A whole and valid black picture of one bit a pixel, small as a file: 30,000 a side are 900 million."""
    packing, row = zlib.compressobj(9), bytes(1 + (side + 7) // 8)
    packed = b"".join(packing.compress(row) for _ in range(side)) + packing.flush()
    return png(struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0), packed)


def png(header: bytes, pixels: bytes) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_picture_of_each_type_is_read(kind: str) -> None:
    picture = uploaded(file_of(Image.fromarray(QUADRANTS), kind, quality=95), "photo.bin")
    assert picture.pixels.size == (60, 40)
    difference = np.abs(np.asarray(picture.pixels).astype(int) - QUADRANTS)
    assert difference.mean() < 4 and (kind != "PNG" or difference.max() == 0)


def test_orientation_of_a_camera_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    picture = uploaded(file_of(Image.fromarray(QUADRANTS), "JPEG", exif=exif, quality=95))
    assert picture.pixels.size == (40, 60)
    assert np.asarray(picture.pixels)[5, 35, 0] > 150  # what was at the top left is at the top right


def test_large_picture_is_made_smaller_and_says_so() -> None:
    picture = uploaded(file_of(Image.new("RGB", (3000, 1500), "teal"), "JPEG"), "wide.jpg")
    assert picture.pixels.size == (LONGEST_SIDE, LONGEST_SIDE // 2)
    assert picture.title == "wide.jpg, made smaller from 3000 x 1500 to 1024 x 512 pixels"


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
HOSTILE = {
    "svg-with-script": (SVG, "is no PNG, JPEG or WebP picture"),
    "svg-named-png": (b"\n" + SVG, "whatever its name says"),
    "html": (b"<html><body onload=alert(1)>", "is no PNG"),
    "gif": (file_of(Image.new("RGB", (20, 20)), "GIF"), "is no PNG"),
    "riff-that-is-no-webp": (b"RIFF\0\0\0\0WAVEfmt ", "is no PNG"),
    "empty": (b"", "is empty"),
    "bomb": (bomb(30_000), "24 million"),
    "30,000-x-30,000": (png_that_claims(30_000, 30_000), "24 million"),
    "a-little-too-large": (png_that_claims(6_000, 5_000), "6000 x 5000 pixels, and at most 24 million"),
    "too-many-bytes": (b"\x89PNG\r\n\x1a\n" + bytes(MAX_UPLOAD_BYTES), "at most 8 are taken"),
    "cut-short": (file_of(Image.fromarray(QUADRANTS), "PNG")[:90], "is broken"),
    "signature-alone": (b"\x89PNG\r\n\x1a\n", "is broken"),
    "too-small": (file_of(Image.new("RGB", (4, 40)), "PNG"), "4 x 40 pixels"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_with_a_sentence(name: str) -> None:
    content, sentence = HOSTILE[name]
    with pytest.raises(PictureError, match=sentence):
        uploaded(content, "picture.png")


def test_message_shows_the_end_of_a_path_without_what_is_invisible() -> None:
    with pytest.raises(PictureError, match=r"^'evil\.png' is empty"):
        uploaded(b"", "../../etc/\x1b\u202eevil.png")


def test_file_of_this_machine_has_the_limits_of_an_upload(tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(file_of(Image.fromarray(QUADRANTS), "PNG"))
    (tmp_path / "passwd").write_text("root:x:0:0")
    assert opened(tmp_path / "good.png") == uploaded((tmp_path / "good.png").read_bytes())
    with pytest.raises(PictureError, match="'passwd' is no PNG"):
        opened(tmp_path / "passwd")
    with pytest.raises(PictureError, match="There is no file"):
        opened(tmp_path / "missing.png")


def test_scene_is_that_of_the_test_split() -> None:
    choice = SceneChoice(number=12, objects=4, occlusion=0.5)
    expected = Scenes("test", length=13, options=SceneOptions((4, 4), 0.5))[12]
    picture = drawn(choice)
    np.testing.assert_array_equal(np.asarray(picture.pixels), expected.image)
    assert picture.expressions == tuple(one.text for one in expected.expressions)
    truth = picture.truth(expected.expressions[0].text)
    np.testing.assert_array_equal(truth, expected.masks[expected.expressions[0].target])
    assert picture.truth("something else") is None


def test_scene_that_cannot_be_drawn_is_an_error() -> None:
    with pytest.raises(SceneChoiceError, match="shares nothing"):
        SceneChoice(objects=1, shared_attribute=True)
    with pytest.raises(SceneChoiceError, match="from 0 to 9999"):
        SceneChoice(number=10_000)


def test_pictures_are_equal_by_their_pixels() -> None:
    assert given(QUADRANTS) == uploaded(file_of(Image.fromarray(QUADRANTS), "PNG"), "another name")
    assert given(QUADRANTS) != given(QUADRANTS.transpose(1, 0, 2))
