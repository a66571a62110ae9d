"""References that cannot be resolved, each with the reason: they are listed in ``book/nitpick-exceptions.yml``.

References to Python, pandas and xarray are resolved against inventories that lie in ``book/inventories``, so that a
build asks no other host. They are those of Debian 12's packages python3.11-doc, python-pandas-doc and
python-xarray-doc, byte for byte. The other projects publish theirs on their own hosts only.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

EXCEPTIONS = Path("book", "nitpick-exceptions.yml")


def add_exceptions(app: Sphinx, config: Config) -> None:
    """Read the list; every entry needs a reason."""
    path = Path(app.srcdir) / EXCEPTIONS
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")) or []:
        if not entry.get("reason"):
            raise ConfigError(f"{path}: the exception {entry} has no reason; write one, or mend the reference.")
        config.nitpick_ignore += [tuple(name.split(maxsplit=1)) for name in entry.get("names", [])]
        config.nitpick_ignore_regex += [tuple(name.split(maxsplit=1)) for name in entry.get("patterns", [])]


def setup(app: Sphinx) -> dict[str, bool]:
    """Read the list before any page is."""
    app.connect("config-inited", add_exceptions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
