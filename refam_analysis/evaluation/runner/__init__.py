"""The runner: a data set in, a folder of rows out, resumable at any moment.

What a run is (`configuration`), the rows (`rows`), one image or clip with its expressions (`groups`, `clips`), what is
written beside the rows (`description`), the folder (`store`), and all of it in a row (`running`).
"""

from refam_analysis.evaluation.runner.configuration import RunConfiguration, RunConfigurationError
from refam_analysis.evaluation.runner.description import describe_models, identity_of, start_of
from refam_analysis.evaluation.runner.groups import (
    GroupError,
    GroupTask,
    LoadedModels,
    OnError,
    evaluate_group,
    load_models,
)
from refam_analysis.evaluation.runner.running import Way, carry_out, evaluate, in_this_process
from refam_analysis.evaluation.runner.store import (
    NoRunError,
    OtherRunError,
    RunFolderError,
    RunResults,
    load_results,
)

__all__ = [
    "GroupError",
    "GroupTask",
    "LoadedModels",
    "NoRunError",
    "OnError",
    "OtherRunError",
    "RunConfiguration",
    "RunConfigurationError",
    "RunFolderError",
    "RunResults",
    "Way",
    "carry_out",
    "describe_models",
    "evaluate",
    "evaluate_group",
    "identity_of",
    "in_this_process",
    "load_models",
    "load_results",
    "start_of",
]
