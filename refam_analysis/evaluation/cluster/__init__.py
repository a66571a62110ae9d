"""A run of a benchmark on a Ray cluster: the same rows in the same folder, from many machines.

Everything that is measured is in the runner's :func:`~refam_analysis.evaluation.runner.groups.evaluate_group`. Here are
the connection (`connecting`), the pictures that Ray Data reads ahead (`reading`), the workers (`worker`) and who gives
them work (`workers`), what becomes of the work of a dead one (`pieces`), and all of it in a row (`running`). Ray is
imported where it is used: the extra ``distributed``.
"""

from refam_analysis.evaluation.cluster.errors import ClusterError, NoRayError, WorkerLostError
from refam_analysis.evaluation.cluster.running import evaluate_on_cluster

__all__ = ["ClusterError", "NoRayError", "WorkerLostError", "evaluate_on_cluster"]
