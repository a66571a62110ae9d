"""The explorer as a widget: what the book's page shows, in a notebook and for one's own recordings.

The widget is drawn by ``static/explorer.js``, the source of the static page too. Here is what travels between it and
Python: the scenes, one at a time, and the reader's choices.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anywidget
import numpy as np
import traitlets
from numpy.typing import NDArray

from refam_analysis.errors import RefamError
from refam_analysis.recording import Recording
from refam_analysis.widgets.explorer_data import ExplorerScene, picture_address
from refam_analysis.widgets.explorer_scenes import NothingToExploreError, scene_of
from refam_analysis.widgets.scripts import module_source, style_source


class UnknownSceneError(RefamError, ValueError):
    """The explorer does not have a scene of this name, or has two."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"There is no one scene {name!r} here: choose among {', '.join(dict.fromkeys(known))}.")


class Explorer(anywidget.AnyWidget):
    """Hover a word and see its map; slide through blocks and heads; switch magnets on and off.

    Args:
        shown: what to explore: None for the scenes of the book's page, which are computed (about a second each); a
            scene from :func:`~refam_analysis.widgets.explorer_scenes.explore`, or several; or a Recording, or several
            of different pictures or sentences.
        images: for recordings, the picture of each, uint8 (height, width, 3), or the picture of a single one. A
            recording does not hold its picture: without it the map lies on grey.

    Attributes:
        scene: name of the scene that is shown.
        direction: "image_to_text" or "text_to_image".
        block: number of the block.
        head: number of the head, or "mean".
        token: key of the token, such as "word 1" or "magnet 0": its group and its place there, from 0. None for the
            first content word.
        magnets: whether the view with magnets is shown, where there are both.
        side: "text" or "image", the queries that the sink strip is about.

    All of these can be read and set; what the reader chooses arrives here.

    Raises:
        NothingToExploreError: there is nothing to show, or a recording without a direction between text and image.
        UnknownSceneError: two scenes of one name, or ``scene`` is set to one that does not exist.

    >>> import refam_analysis as ra
    >>> model, sample = ra.load_model("embedded"), ra.Scenes("test")[0]
    >>> sentence = sample.expressions[0].text
    >>> recording = ra.record(model, sample.image, sentence, magnets=ra.DEFAULT_MAGNETS)
    >>> explorer = ra.Explorer(recording, images=sample.image)  # as the last line of a cell it is shown
    >>> explorer.block = 3
    >>> explorer.direction
    'image_to_text'
    """

    _esm = module_source("explorer.js")
    _css = style_source("explorer.css")

    headings: Any = traitlets.List(read_only=True).tag(sync=True)
    data = traitlets.Dict(read_only=True).tag(sync=True)
    scene = traitlets.Unicode().tag(sync=True)
    direction = traitlets.Enum(("image_to_text", "text_to_image"), "image_to_text").tag(sync=True)
    block = traitlets.Int(allow_none=True, default_value=None).tag(sync=True)
    head = traitlets.Union([traitlets.Int(), traitlets.Enum(("mean",))], default_value="mean").tag(sync=True)
    token = traitlets.Unicode(allow_none=True, default_value=None).tag(sync=True)
    magnets = traitlets.Bool(True).tag(sync=True)
    side = traitlets.Enum(("text", "image"), "image").tag(sync=True)

    def __init__(
        self,
        shown: ExplorerScene | Recording | Sequence[ExplorerScene | Recording] | None = None,
        *,
        images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]] | None = None,
    ) -> None:
        scenes = _listed() if shown is None else _scenes(shown, images)
        names = [scene.name for scene in scenes]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise UnknownSceneError(repeated, names)
        self._scenes = {scene.name: scene for scene in scenes}
        super().__init__()
        thumbs = [{**scene.heading(), "thumbnail": picture_address(scene.image)} for scene in scenes]
        self.set_trait("headings", thumbs)
        self.scene = names[0]

    @traitlets.validate("scene")
    def _known(self, proposal: Any) -> str:
        name = str(proposal["value"])
        if name not in self._scenes:
            raise UnknownSceneError(name, list(self._scenes))
        return name

    @traitlets.observe("scene")
    def _hand_over(self, change: Any) -> None:
        self.set_trait("data", self._scenes[change["new"]].to_dict())


def _listed() -> list[ExplorerScene]:
    from refam_analysis.models import load_model
    from refam_analysis.widgets.explorer_list import explored

    return list(explored(load_model("embedded")))


def _scenes(
    shown: ExplorerScene | Recording | Sequence[ExplorerScene | Recording],
    images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]] | None,
) -> list[ExplorerScene]:
    if isinstance(shown, ExplorerScene | Recording):
        shown = [shown]
        images = None if images is None else [np.asarray(images)]
    if not shown:
        raise NothingToExploreError("no scene and no recording was given")
    given: list[Any] = [None] * len(shown) if images is None else [np.asarray(image) for image in images]
    if len(given) != len(shown):
        raise NothingToExploreError(f"{len(shown)} were given, and pictures of {len(given)}")
    return [
        one if isinstance(one, ExplorerScene) else scene_of(one, image, name=f"recording-{number}")
        for number, (one, image) in enumerate(zip(shown, given, strict=True))
    ]
