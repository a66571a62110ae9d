"""Compare two builds of the book, file by file: they may differ in the dates that they name, and in nothing else.

python book/compare_builds.py _build/once _build/html
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

DATE = re.compile(rb"\b20\d\d-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?\b")


def differences(one: Path, other: Path) -> list[str]:
    """What two folders differ in, one line a file.

    Args:
        one: folder of a build.
        other: folder of another.
    """
    files = [{str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} for folder in (one, other)]
    found = [f"{name}: only in {one}" for name in files[0] - files[1]]
    found += [f"{name}: only in {other}" for name in files[1] - files[0]]
    for name in files[0] & files[1]:
        before, after = (DATE.sub(b"", (folder / name).read_bytes()) for folder in (one, other))
        if before != after:
            place = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))
            shown = [text[max(place - 40, 0) : place + 60] for text in (before, after)]
            found.append(f"{name}: differs from byte {place}: {shown[0]!r} and {shown[1]!r}")
    return sorted(found)


def main() -> int:
    """Print the differences; 1 where there are any."""
    if len(sys.argv) != 3:
        print("Name two folders: python book/compare_builds.py ONE OTHER", file=sys.stderr)
        return 2
    one, other = (Path(name) for name in sys.argv[1:])
    for folder in (one, other):
        if not (folder / "index.html").is_file():
            print(f"{folder} is no built book: it has no index.html.", file=sys.stderr)
            return 2
    found = differences(one, other)
    print("\n".join(found) or "The builds differ in nothing but dates.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
