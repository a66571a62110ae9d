"""What a data set is to the runner: pictures or clips, the sentences about them, and the true masks.

Everything here is frozen and small, and can be pickled: pixels are loaded where they are used. How the published
releases become such items is in the readers beside this file (`refcoco`, `davis`, `youtube_vos`, `mevis`, `drawn`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from refam_analysis.evaluation.datasets.problems import Problem
from refam_analysis.evaluation.datasets.rle import Rle
from refam_analysis.evaluation.metrics import EmptyRule

Fact = str | float | int


class Picture(Protocol):
    """Where the pixels of a still picture come from: a file, or a drawn scene. Frozen, can be pickled."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, without reading the pixels."""

    def load(self) -> NDArray[np.uint8]:
        """RGB, (height, width, 3)."""


class Frames(Protocol):
    """Where the frames of a clip come from."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""

    def __len__(self) -> int: ...

    def load(self, i: int) -> NDArray[np.uint8]:
        """Frame ``i``, RGB, (height, width, 3)."""


class Truth(Protocol):
    """Where the true masks of a sentence about a clip come from."""

    @property
    def annotated(self) -> tuple[int, ...]:
        """The frames of which the truth is known, rising."""

    def load(self, i: int) -> NDArray[np.bool_]:
        """The mask in frame ``i``, (height, width); all False where the object is out of sight."""


@dataclass(frozen=True)
class ReferringExpression:
    """A sentence about a still picture, and what it refers to.

    Attributes:
        key: names it within its data set and split; the same on every machine and in every run.
        text: the sentence, as released.
        mask: the truth as COCO run lengths, see :func:`~refam_analysis.evaluation.datasets.rle.decode_mask`; None where
            the sentence refers to nothing in the picture (gRefCOCO).
        kind: what slices go by first; see the reader of the data set.
        facts: what else is known, by name: see :mod:`refam_analysis.evaluation.datasets.facts`.
    """

    key: str
    text: str
    mask: Rle | None
    kind: str = ""
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True)
class ReferringImage:
    """A still picture with its sentences.

    Attributes:
        key: names it within its data set and split.
        expressions: at least one.
        picture: where the pixels come from.
    """

    key: str
    expressions: tuple[ReferringExpression, ...]
    picture: Picture

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.picture.size

    def load(self) -> NDArray[np.uint8]:
        """The pixels: RGB, (height, width, 3).

        Raises:
            DatasetItemError: the file is missing, cut, or of another size than the annotations say.
        """
        return self.picture.load()


@dataclass(frozen=True)
class ClipExpression:
    """A sentence about a clip, and what it refers to in each frame.

    Attributes:
        key: names it within its data set and split.
        text: the sentence, as released.
        truth: where the true masks come from; None where the release keeps them back (Ref-YouTube-VOS valid and test,
            MeViS valid): there, masks are scored by the benchmark's own server.
        kind: what slices go by first.
        facts: what else is known, by name.
    """

    key: str
    text: str
    truth: Truth | None
    kind: str = ""
    facts: Mapping[str, Fact] = field(default_factory=dict)

    @property
    def annotated(self) -> tuple[int, ...]:
        """The frames of which the truth is known, rising."""
        return () if self.truth is None else self.truth.annotated

    def load_masks(self, i: int) -> NDArray[np.bool_] | None:
        """The true mask of frame ``i``: bool (height, width), or None where the frame is not annotated.

        A frame in which the object is out of sight gives a mask that is False everywhere.

        Raises:
            DatasetItemError: the mask's file is missing, cut or of another size.
        """
        return self.truth.load(i) if self.truth is not None and i in self.truth.annotated else None


@dataclass(frozen=True)
class ReferringClip:
    """A clip with its sentences; frames are loaded one at a time.

    Attributes:
        key: names it within its data set and split.
        expressions: at least one.
        frames: where the frames come from.
        frame_names: as the release names them, such as "00005"; needed for a submission.
    """

    key: str
    expressions: tuple[ClipExpression, ...]
    frames: Frames
    frame_names: tuple[str, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every frame, in pixels."""
        return self.frames.size

    def __len__(self) -> int:
        return len(self.frame_names)

    def load_frame(self, i: int) -> NDArray[np.uint8]:
        """Frame ``i``: RGB, (height, width, 3).

        Raises:
            DatasetItemError: the file is missing or cut.
        """
        return self.frames.load(i)


Item = ReferringImage | ReferringClip


@dataclass(frozen=True)
class ReferringDataset(Sequence[Item]):
    """A split of a data set: a sequence of pictures, or of clips.

    Attributes:
        name: such as "refcoco+".
        split: such as "testA".
        items: all :class:`ReferringImage`, or all :class:`ReferringClip`, in a fixed order.
        expressions: how many sentences there are in all items.
        video: whether they are clips.
        empty: what an empty prediction for an empty truth counts by the benchmark's own rule.
        problems: what was left out with ``on_error="skip"``.
        has_truth: whether the true masks are there; without them masks can be made, but not scored.
    """

    name: str
    split: str
    items: Sequence[Item]
    expressions: int
    video: bool
    empty: EmptyRule
    problems: tuple[Problem, ...] = ()
    has_truth: bool = True

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:  # type: ignore[override]
        return self.items[index]

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)
