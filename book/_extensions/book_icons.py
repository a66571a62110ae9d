"""The theme's script of icons, cut down to the icons that the book shows: 1.5 MB less for each page to load."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

SCRIPT = Path("_static", "scripts", "fontawesome.js")
ENTRY = re.compile(r'"?([\w-]+)"?:\[\d+,\d+,\[([^\]]*)\],"[0-9a-f]+",(?:"[^"]*"|\["[^"]*","[^"]*"\])\],?')
"""One icon as Font Awesome's scripts write it: name, size, other names, place in the font, outline."""
LEAST_ENTRIES = 1000
"""Fewer than this in the theme's script, and it is written differently from what we know."""


def without_unused(script: str, used: set[str]) -> str:
    """The script without the icons that nobody uses.

    Args:
        script: Font Awesome's.
        used: names of icons, without "fa-".

    >>> icons = '{"sun":[512,512,[9728],"f185","M0"],"moon":[384,512,["night"],"f186","M1"],"tree":[1,2,[],"f1","M2"]}'
    >>> without_unused(icons, {"sun", "night"})
    '{"sun":[512,512,[9728],"f185","M0"],"moon":[384,512,["night"],"f186","M1"],}'
    """

    def kept(entry: re.Match[str]) -> str:
        return entry[0] if {entry[1], *re.findall(r'"([\w-]+)"', entry[2])} & used else ""

    return ENTRY.sub(kept, script)


def cut(app: Sphinx, exception: Exception | None) -> None:
    """Cut the script of the built book; the theme's own stays as it is."""
    if exception or app.builder.format != "html":
        return
    root = Path(app.outdir)
    script = root / SCRIPT
    text = script.read_text(encoding="utf-8")
    # Style sheets name every icon there is; pages and scripts name those that they show.
    texts = [path for ending in ("html", "js") for path in root.rglob(f"*.{ending}") if path != script]
    used = {name for path in texts for name in re.findall(r"\bfa-([a-z0-9-]+)", path.read_text(encoding="utf-8"))}
    if ENTRY.search(text) is None or len(text) > 1e6 and len(ENTRY.findall(text)) < LEAST_ENTRIES:
        raise ExtensionError(f"{SCRIPT} of the theme lists its icons in another way than book_icons.py knows.")
    script.write_text(without_unused(text, used), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Cut when everything else is written."""
    app.connect("build-finished", cut, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
