"""The published benchmarks of referring segmentation, read from the original releases, and scenes beside them.

What an item is (`base`), its masks (`rle`) and facts (`facts`), the readers (`refcoco`, `davis`, `youtube_vos`,
`mevis`, `drawn`), the pickles that they take and those that they refuse (`pickles`), what is wrong with a data set
(`problems`), which data sets there are (`catalogue`), and whether a release is complete (`checking`).
"""

from refam_analysis.evaluation.datasets.base import (
    ClipExpression,
    ReferringClip,
    ReferringDataset,
    ReferringExpression,
    ReferringImage,
)
from refam_analysis.evaluation.datasets.loading import load_dataset
from refam_analysis.evaluation.datasets.problems import (
    DatasetError,
    DatasetFileError,
    DatasetItemError,
    OnError,
    Problem,
    UnknownDatasetError,
)
from refam_analysis.evaluation.datasets.rle import BadMaskError, Rle, decode_mask, encode_mask

__all__ = [
    "BadMaskError",
    "ClipExpression",
    "DatasetError",
    "DatasetFileError",
    "DatasetItemError",
    "OnError",
    "Problem",
    "ReferringClip",
    "ReferringDataset",
    "ReferringExpression",
    "ReferringImage",
    "Rle",
    "UnknownDatasetError",
    "decode_mask",
    "encode_mask",
    "load_dataset",
]
