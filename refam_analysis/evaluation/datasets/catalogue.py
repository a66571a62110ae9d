"""Which data sets there are: how each is read, what its makers say is in it, and where to get it.

Counts are of the whole release, by split, as far as they are published; each table says where. They are compared with
what is found by :mod:`refam_analysis.evaluation.datasets.checking`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from refam_analysis.evaluation.datasets.base import Item
from refam_analysis.evaluation.datasets.davis import read_davis
from refam_analysis.evaluation.datasets.drawn import CLIPS, SCENES, DrawnClips, DrawnScenes
from refam_analysis.evaluation.datasets.mevis import read_mevis
from refam_analysis.evaluation.datasets.problems import Tally
from refam_analysis.evaluation.datasets.refcoco import RefRelease, read_refcoco
from refam_analysis.evaluation.datasets.youtube_vos import read_youtube_vos
from refam_analysis.evaluation.metrics import EmptyRule

Reader = Callable[[str, str, Tally, int | None], Sequence[Item]]
"""(root, split, tally, limit) to the items of a split."""


@dataclass(frozen=True)
class Count:
    """What a split holds by its makers' count; None where it is not published.

    Attributes:
        items: pictures or clips.
        expressions: sentences; several numbers where versions of the release differ.
    """

    items: int | None = None
    expressions: tuple[int, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """One data set.

    Attributes:
        title: its name as its makers write it.
        read: its reader.
        splits: in the release's own words.
        video: whether items are clips.
        empty: what an empty prediction for an empty truth counts, by the benchmark's own rule.
        empty_source: where that rule is from.
        published: counts by split.
        counted_by: where the counts are from.
        get: where to get it.
        drawn: whether it needs no files.
    """

    title: str
    read: Reader
    splits: tuple[str, ...]
    video: bool
    empty: EmptyRule
    empty_source: str
    published: Mapping[str, Count] = field(default_factory=dict)
    counted_by: str = ""
    get: str = ""
    drawn: bool = False


def _refcoco(folder: str, *refs: str, several: bool = False) -> Reader:
    return partial(read_refcoco, RefRelease(folder, refs, several))


def _draw_scenes(root: str, split: str, tally: Tally, limit: int | None) -> DrawnScenes:
    return DrawnScenes(split, SCENES if limit is None else limit)  # type: ignore[arg-type]


def _draw_clips(root: str, split: str, tally: Tally, limit: int | None) -> DrawnClips:
    return DrawnClips(split, CLIPS if limit is None else limit)  # type: ignore[arg-type]


_COCO = (
    "Pictures: train2014 of cocodataset.org/#download (82,783 files). "
    "Annotations: the zip files that github.com/lichengunc/refer names in its README ({}). "
    "Lay them out as {}/ and images/mscoco/images/train2014/, or train2014/, below the root."
)
_NEVER_EMPTY = "no target is empty; an empty union counts 0, as in test.py of github.com/yz93/LAVT-RIS"
_DAVIS_RULE = "db_eval_iou and db_eval_boundary of the DAVIS 2017 evaluation count two empty masks as 1"
_TFDS = (
    "images: the table in tensorflow_datasets' ref_coco (counted from the release); expressions: the numbers that "
    "papers cite"
)

BENCHMARKS: Mapping[str, Benchmark] = {
    "refcoco": Benchmark(
        "RefCOCO",
        _refcoco("refcoco", "refs(unc).p"),
        ("train", "val", "testA", "testB"),
        video=False,
        empty="wrong",
        empty_source=_NEVER_EMPTY,
        published={
            "train": Count(16_994, (120_624,)),
            "val": Count(1_500, (10_834,)),
            "testA": Count(750, (5_657,)),
            "testB": Count(750, (5_095,)),
        },
        counted_by=f"{_TFDS} by split (the paper's total of 142,209 expressions, for 50,000 objects in 19,994 images, "
        "Yu et al., ECCV 2016, is one less than their sum)",
        get=_COCO.format("refcoco.zip", "refcoco"),
    ),
    "refcoco+": Benchmark(
        "RefCOCO+",
        _refcoco("refcoco+", "refs(unc).p"),
        ("train", "val", "testA", "testB"),
        video=False,
        empty="wrong",
        empty_source=_NEVER_EMPTY,
        published={
            "train": Count(16_992, (120_191,)),
            "val": Count(1_500, (10_758,)),
            "testA": Count(750, (5_726,)),
            "testB": Count(750, (4_889,)),
        },
        counted_by=f"{_TFDS} by split (in all 141,564, for 49,856 objects in 19,992 images, Yu et al., ECCV 2016)",
        get=_COCO.format("refcoco+.zip", "refcoco+"),
    ),
    "refcocog-umd": Benchmark(
        "RefCOCOg (UMD)",
        _refcoco("refcocog", "refs(umd).p"),
        ("train", "val", "test"),
        video=False,
        empty="wrong",
        empty_source=_NEVER_EMPTY,
        published={
            "train": Count(21_899, (80_512,)),
            "val": Count(1_300, (4_896,)),
            "test": Count(2_600, (9_602,)),
        },
        counted_by=f"{_TFDS} by split (in all 95,010, as in the Google partition); the partition is that of Nagaraja "
        "et al., ECCV 2016",
        get=_COCO.format("refcocog.zip", "refcocog"),
    ),
    "refcocog-google": Benchmark(
        "RefCOCOg (Google)",
        _refcoco("refcocog", "refs(google).p"),
        ("train", "val"),
        video=False,
        empty="wrong",
        empty_source=_NEVER_EMPTY,
        published={"train": Count(24_698, (85_474,)), "val": Count(4_650, (9_536,))},
        counted_by=f"{_TFDS} by split; the partition, whose test set was never released, is that of Mao et al., "
        "CVPR 2016",
        get=_COCO.format("refcocog.zip", "refcocog"),
    ),
    "grefcoco": Benchmark(
        "gRefCOCO",
        _refcoco("grefcoco", "grefs(unc).json", "grefs(unc).p", several=True),
        ("train", "val", "testA", "testB"),
        video=False,
        empty="right",
        empty_source="gIoU of Liu et al., CVPR 2023: a target of nothing counts 1 where nothing is predicted, else 0",
        counted_by="no counts by split; Liu et al., CVPR 2023, give 278,232 expressions in all, 80,022 of several "
        "targets and 32,202 of none, in 19,994 images",
        get="github.com/henghuiding/gRefCOCO links grefs(unc).json and instances.json; pictures: train2014 of "
        "cocodataset.org/#download. Lay them out as grefcoco/ and images/train2014/ below the root.",
    ),
    "ref-davis17": Benchmark(
        "Ref-DAVIS17",
        read_davis,
        ("train", "valid"),
        video=True,
        empty="right",
        empty_source=_DAVIS_RULE,
        published={"train": Count(60), "valid": Count(30, (244,))},
        counted_by="videos: Pont-Tuset et al., 2017; expressions: 4 for each of the 61 objects of valid",
        get="Videos and masks: davischallenge.org (480p). Texts: davis_text_annotations.zip on the page of Khoreva et "
        "al. at mpi-inf.mpg.de. Unpack both below the root, or convert them with ReferFormer's "
        "convert_davis_to_ytvos.py.",
    ),
    "ref-youtube-vos": Benchmark(
        "Ref-YouTube-VOS",
        read_youtube_vos,
        ("train", "valid", "test"),
        video=True,
        empty="right",
        empty_source=_DAVIS_RULE,
        published={"train": Count(3_471, (12_913,)), "valid": Count(202), "test": Count(305)},
        counted_by="train: Seo et al., ECCV 2020, sentences about the whole video; valid and test: the notes in "
        "ReferFormer's ytvos.py",
        get="youtube-vos.org/dataset/rvos (an account of its competition is needed). Unpack meta_expressions/, train/, "
        "valid/ and test/ below the root.",
    ),
    "mevis": Benchmark(
        "MeViS",
        read_mevis,
        ("train", "valid_u", "valid"),
        video=True,
        empty="right",
        empty_source=_DAVIS_RULE,
        published={
            "train": Count(1_662, (23_051, 27_502)),
            "valid_u": Count(50, (793, 907)),
            "valid": Count(140, (2_236, 2_523)),
        },
        counted_by="README of github.com/henghuiding/MeViS; of expressions the first version's number, then the "
        "second's",
        get="github.com/henghuiding/MeViS links the data. Unpack train/, valid_u/ and valid/ below the root.",
    ),
    "scenes": Benchmark(
        "Scenes",
        _draw_scenes,
        ("train", "validation", "test"),
        video=False,
        empty="right",
        empty_source="no target is empty",
        get="Nothing to get: scenes are drawn.",
        drawn=True,
    ),
    "moving-scenes": Benchmark(
        "Moving scenes",
        _draw_clips,
        ("train", "validation", "test"),
        video=True,
        empty="right",
        empty_source=_DAVIS_RULE,
        get="Nothing to get: clips are drawn.",
        drawn=True,
    ),
}
"""By the name that :func:`~refam_analysis.evaluation.datasets.load_dataset` takes."""
