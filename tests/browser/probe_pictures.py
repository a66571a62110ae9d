"""The book's pictures of the probe: ``python tests/browser/probe_pictures.py`` makes them from the tests' screenshots.

Run ``pytest tests/browser/test_probe.py tests/browser/test_app.py`` before. Each picture is made narrower, which keeps
them small.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
SCREENSHOTS, PICTURES = ROOT / "_build" / "screenshots", ROOT / "book" / "_static"
NAMES = ("first", "picked", "dark")
WIDTH, QUALITY = 1000, 85


def main() -> None:
    """Write every picture."""
    for name in NAMES:
        path = PICTURES / f"probe-{name}.jpg"
        narrow(f"probe-{name}").save(path, quality=QUALITY, optimize=True)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")
    path = PICTURES / "probe-app.png"
    narrow("app-light-1280").quantize(256).save(path, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def narrow(name: str) -> Image.Image:
    """A screenshot, made narrower."""
    with Image.open(SCREENSHOTS / f"{name}.png") as shot:
        size = (WIDTH, round(shot.height * WIDTH / shot.width))
        return shot.convert("RGB").resize(size, Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
