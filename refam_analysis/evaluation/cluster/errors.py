"""What can go wrong between machines. Each error is made from its sentence alone, so that it survives the way back."""

from __future__ import annotations

from refam_analysis.errors import RefamError


class ClusterError(RefamError, RuntimeError):
    """A cluster cannot be reached or used, or its workers fail in a way that has nothing to do with one item."""


class WorkerLostError(ClusterError):
    """The process that worked on an item is gone, every time that it was tried."""


class NoRayError(ClusterError, ImportError):
    """Ray is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "Runs on several machines need Ray, which is not installed. Install it on every machine with: "
            "pip install 'refam-analysis[distributed]', or leave --ray out."
        )
