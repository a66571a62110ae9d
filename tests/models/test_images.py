"""Images: what is read, what it becomes, and what is refused."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from refam_analysis.models import ImageError, ImageSizeError, ImageValueError, UnreadableImageError, load_image

RED, GREEN = (255, 0, 0), (0, 153, 0)  # both in the palette that Pillow uses by itself


def picture(mode: str = "RGB") -> Image.Image:
    """12 x 16 (height x width), red above green."""
    image = Image.new("RGB", (16, 12), RED)
    image.paste(GREEN, (0, 6, 16, 12))
    return image.convert(mode)


def corners(image: Image.Image) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Colours above and below."""
    array = np.asarray(image)
    return tuple(array[0, 0].tolist()), tuple(array[-1, -1].tolist())


def bomb(path: Path, side: int) -> Path:
    """A PNG whose header says side x side, with next to no data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


@pytest.mark.parametrize("mode", ["RGB", "P", "RGBA", "RGBX", "YCbCr"])
def test_colour_pictures_keep_their_colours(mode: str) -> None:
    loaded = load_image(picture(mode))
    assert (loaded.mode, loaded.size) == ("RGB", (16, 12))
    np.testing.assert_allclose(corners(loaded), (RED, GREEN), atol=3)


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff", "bmp"])
def test_files_are_read(suffix: str, tmp_path: Path) -> None:
    picture().save(tmp_path / f"a.{suffix}", lossless=True)
    assert corners(load_image(tmp_path / f"a.{suffix}")) == (RED, GREEN)
    assert corners(load_image(str(tmp_path / f"a.{suffix}"))) == (RED, GREEN)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    picture("CMYK").save(tmp_path / "a.jpg", quality=100)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.mode == "CMYK"
    np.testing.assert_allclose(corners(load_image(tmp_path / "a.jpg")), (RED, GREEN), atol=4)


def test_a_transparent_palette_is_laid_on_white(tmp_path: Path) -> None:
    image = picture("P")
    image.save(tmp_path / "a.png", transparency=image.getpixel((0, 0)))
    assert corners(load_image(tmp_path / "a.png")) == ((255, 255, 255), GREEN)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    image = picture("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    assert set(np.asarray(load_image(image.convert(mode))).ravel().tolist()) == {255}


def test_half_transparency_is_half_way_to_white() -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    assert corners(load_image(image))[0] == (127, 127, 127)
    assert corners(load_image(np.asarray(image)))[0] == (127, 127, 127)


@pytest.mark.parametrize("kind", ["png", "tiff", "array"])
def test_16_bit_gray_is_scaled_not_clipped(kind: str, tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    if kind != "array":
        Image.fromarray(values).save(tmp_path / f"a.{kind}")
    loaded = load_image(values if kind == "array" else tmp_path / f"a.{kind}")
    np.testing.assert_array_equal(np.asarray(loaded)[..., 1], np.arange(256).reshape(16, 16))


def test_the_orientation_of_the_camera_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise is needed to look at it
    picture().save(tmp_path / "a.png", exif=exif)
    loaded = np.asarray(load_image(tmp_path / "a.png"))
    assert loaded.shape == (16, 12, 3)
    assert tuple(loaded[0, -1]) == tuple(loaded[-1, -1]) == RED
    assert tuple(loaded[0, 0]) == GREEN
    assert not load_image(tmp_path / "a.png").getexif()


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), (0, 0, 255))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert corners(load_image(tmp_path / "a.gif"))[0] == RED


def test_the_given_picture_is_not_changed() -> None:
    image = picture()
    load_image(image).paste((0, 0, 255), (0, 0, 16, 12))
    assert corners(image) == (RED, GREEN)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(8, 12), st.integers(8, 12), st.just(3))))
def test_every_way_to_give_the_same_bytes_gives_the_same_picture(array: np.ndarray) -> None:
    tensor = torch.from_numpy(array)
    given_as = [
        array,
        array / 255,
        (array / 255).astype(np.float32),
        Image.fromarray(array),
        tensor,
        tensor.permute(2, 0, 1),
        (tensor / 255).permute(2, 0, 1).requires_grad_(),
    ]
    for source in given_as:
        np.testing.assert_array_equal(np.asarray(load_image(source)), array)


def test_a_low_precision_tensor_is_read() -> None:
    loaded = load_image(torch.full((3, 8, 9), 0.5, dtype=torch.bfloat16))
    assert loaded.size == (9, 8)
    assert corners(loaded)[0] == (128, 128, 128)


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 1)], ids=str)
def test_gray_arrays_become_rgb(shape: tuple[int, ...]) -> None:
    assert corners(load_image(np.full(shape, 7, np.uint8)))[0] == (7, 7, 7)


def test_a_mask_is_black_and_white() -> None:
    assert corners(load_image(np.eye(8, dtype=bool)[:, ::-1]))[0] == (0, 0, 0)
    assert corners(load_image(np.eye(8, dtype=bool)))[0] == (255, 255, 255)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no such file"), (b"", "the file is empty"), (b"not a picture", "no picture that Pillow knows")],
    ids=["missing", "empty", "text"],
)
def test_an_unreadable_file_is_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UnreadableImageError, match=message):
        load_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tiff"])
def test_a_file_that_is_cut_short_is_refused(suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / f"a.{suffix}")
    whole = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableImageError, match="cannot be read"):
        load_image(tmp_path / f"a.{suffix}")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="it is a folder"):
        load_image(tmp_path)


@pytest.mark.parametrize("side", [10_000, 40_000], ids=["over-our-limit", "over-pillows-limit"])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(side: int, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="89,478,485 pixels"):
        load_image(bomb(tmp_path / "a.png", side))


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (7, 8)], ids=str)
def test_a_tiny_picture_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageSizeError, match=f"{size[0]} x {size[1]} pixels"):
        load_image(Image.new("RGB", size))
    with pytest.raises(ImageSizeError, match=f"{size[0]} x {size[1]} pixels"):
        load_image(np.zeros((size[1], size[0], 3), np.uint8))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((0, 8, 3)), "8 x 0 pixels"),
        (np.full((8, 8, 3), np.nan), "192 values of the image are NaN"),
        (np.full((8, 8, 3), np.inf), "infinite"),
        (np.full((8, 8, 3), 255.0), r"lie in \[255, 255\]"),
        (np.full((8, 8, 3), -0.5), r"lie in \[-0.5, -0.5\]"),
        (np.zeros((8, 8, 3), np.int64), "int64 are ambiguous"),
        (np.zeros((8, 8, 2)), r"shape \(8, 8, 2\)"),
        (np.zeros((2, 8, 8, 3)), r"shape \(2, 8, 8, 3\)"),
        (np.zeros(8), r"shape \(8,\)"),
        (np.zeros((8, 8), np.complex64), "complex64"),
    ],
    ids=["empty", "nan", "inf", "bytes-as-floats", "negative", "int64", "two-channels", "batch", "vector", "complex"],
)
def test_an_array_that_is_no_picture_is_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        load_image(array)
    with pytest.raises(ImageError, match=message):
        load_image(torch.from_numpy(array))


def test_nan_in_a_floating_point_tiff_is_refused(tmp_path: Path) -> None:
    values = np.full((8, 8), 0.5, np.float32)
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(ImageValueError, match="1 values of the image are NaN"):
        load_image(tmp_path / "a.tiff")


def test_deep_gray_beyond_16_bits_is_refused() -> None:
    with pytest.raises(ImageValueError, match="70000"):
        load_image(Image.fromarray(np.full((8, 8), 70000, np.int32)))


def test_a_mode_that_pillow_cannot_convert_is_refused() -> None:
    with pytest.raises(ImageValueError, match="mode La"):
        load_image(Image.new("La", (8, 8)))


def test_something_else_is_refused() -> None:
    with pytest.raises(ImageValueError, match="made of a list"):
        load_image([[0, 1]])  # type: ignore[arg-type]
