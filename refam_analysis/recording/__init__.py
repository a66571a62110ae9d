"""Recording: what runs inside the forward pass, exact reductions of its attention, and the labelled result.

`record` composes a model with a :class:`Recorder` and says which passes run (`runs`). The Recorder decides what it
keeps (`plans`, `quantities`), listens to a bare transformer through hooks (`passes`) and a function mode
(`attention_calls`), gets the log-sum-exp of every row from a kernel (`kernels`) and reduces the attention without ever
holding it (`reductions`, `chunks`, `precision`); it can change the attention meanwhile (`interventions`). What comes
out is a :class:`Recording` (`assembly`, `recording`, `labels`, `storage`), in memory or written to disk block by block
(`store`, which completes the same run alone: `differences`). `estimate` says before what it will take (`sizes`). What
it means is the business of `analysis`.
"""

from refam_analysis.models.blocks import (
    Block,
    BlockCountError,
    NoBlocksError,
    UnknownBlockError,
    UnknownStackError,
    find_blocks,
)
from refam_analysis.recording.assembly import BranchesError
from refam_analysis.recording.attention_calls import UnsupportedAttentionError
from refam_analysis.recording.estimate import Estimate, estimate
from refam_analysis.recording.integrity import RecordingDamagedError
from refam_analysis.recording.interventions import Intervention, InterventionError
from refam_analysis.recording.passes import (
    BatchChangedError,
    BlockOrderError,
    LayoutMismatchError,
    MissedAttentionError,
)
from refam_analysis.recording.quantities import DEFAULT_KEEP, QUANTITIES, QuantityMissingError, UnknownQuantityError
from refam_analysis.recording.record import record, record_batch
from refam_analysis.recording.recorder import (
    NothingRecordedError,
    NotOneRecordingError,
    OtherThreadError,
    Recorder,
    RecorderBusyError,
)
from refam_analysis.recording.recording import Recording, UnknownWordError, load_recording, rescue_recording
from refam_analysis.recording.runs import RegionError, StepsError
from refam_analysis.recording.sizes import MemoryBudgetError
from refam_analysis.recording.storage import (
    RecordingExistsError,
    RecordingFormatError,
    RecordingIncompleteError,
    RecordingNotFoundError,
)
from refam_analysis.recording.store import OtherRunError, RecordingStore, StoreShapeError, StoreSpaceError

__all__ = [
    "DEFAULT_KEEP",
    "QUANTITIES",
    "BatchChangedError",
    "Block",
    "BlockCountError",
    "BlockOrderError",
    "BranchesError",
    "Estimate",
    "Intervention",
    "InterventionError",
    "LayoutMismatchError",
    "MemoryBudgetError",
    "MissedAttentionError",
    "NoBlocksError",
    "NotOneRecordingError",
    "NothingRecordedError",
    "OtherRunError",
    "OtherThreadError",
    "QuantityMissingError",
    "Recorder",
    "RecorderBusyError",
    "Recording",
    "RecordingDamagedError",
    "RecordingExistsError",
    "RecordingFormatError",
    "RecordingIncompleteError",
    "RecordingNotFoundError",
    "RecordingStore",
    "RegionError",
    "StoreShapeError",
    "StoreSpaceError",
    "StepsError",
    "UnknownBlockError",
    "UnknownQuantityError",
    "UnknownStackError",
    "UnknownWordError",
    "UnsupportedAttentionError",
    "estimate",
    "find_blocks",
    "load_recording",
    "record",
    "record_batch",
    "rescue_recording",
]
