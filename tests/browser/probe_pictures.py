"""The book's pictures of the probe: ``python tests/browser/probe_pictures.py`` makes them from the tests' screenshots.

Run ``pytest tests/browser/test_probe.py`` before. Each picture is made narrower, which keeps all of
them under half a megabyte.
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
        with Image.open(SCREENSHOTS / f"probe-{name}.png") as shot:
            size = (WIDTH, round(shot.height * WIDTH / shot.width))
            small = shot.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        path = PICTURES / f"probe-{name}.jpg"
        small.save(path, quality=QUALITY, optimize=True)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
