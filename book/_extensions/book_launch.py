"""Where the repository is, for links from pages to it: one name in the environment, ``REFAM_REPOSITORY``.

A notebook's page can always be downloaded as the notebook it came from. When the address of the repository is known
(the workflow that publishes the book sets it), the page also leads to the same notebook on Binder, on Colab and in
the repository. These are links: nothing is fetched before a reader follows one.
"""

from __future__ import annotations

import os

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

VARIABLE = "REFAM_REPOSITORY"
BRANCH_VARIABLE = "REFAM_BRANCH"
SERVICES = {
    "binderhub_url": "https://mybinder.org",
    "colab_url": "https://colab.research.google.com",
    "notebook_interface": "jupyterlab",
}


def add_repository(app: Sphinx, config: Config) -> None:
    """Tell the theme the address of the repository, if there is one."""
    address = os.environ.get(VARIABLE, "").rstrip("/")
    if not address:
        return
    if not address.startswith("https://github.com/") or address.count("/") != 4:
        raise ConfigError(f"{VARIABLE} is {address!r}; give it as https://github.com/OWNER/NAME, or leave it unset.")
    config.html_theme_options |= {
        "repository_url": address,
        "repository_branch": os.environ.get(BRANCH_VARIABLE) or "main",
        "use_repository_button": True,
        "launch_buttons": SERVICES,
    }


def setup(app: Sphinx) -> dict[str, bool]:
    """Read the environment before the theme reads its options."""
    app.connect("config-inited", add_repository, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
