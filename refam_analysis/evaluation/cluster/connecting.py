"""A connection to a Ray cluster, and how many workers it has room for."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from refam_analysis.evaluation.cluster.errors import ClusterError, NoRayError

READING = 0.1
"""Of a processor, what reading a picture asks for; workers without a GPU leave it free."""
LOCAL_STARTS = 3
"""So often a cluster of this machine's own is tried to be started."""


@dataclass(frozen=True)
class Room:
    """What workers a cluster has room for.

    Attributes:
        workers: how many.
        resources: what each of them asks Ray for.
        threads: of each; None for PyTorch's own choice.
    """

    workers: int
    resources: dict[str, float]
    threads: int | None


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Be a driver of a cluster; a connection that is there already is used, and left as it is.

    Args:
        address: "auto" for the cluster that this machine belongs to, "host:port" of its head, or "local" for one of
            this machine's own, made for the time being.

    Raises:
        NoRayError: Ray is not installed.
        ClusterError: there is no cluster, or it cannot be used from here.
    """
    if address.startswith("ray://"):
        raise ClusterError(
            f"{address!r} is an address of Ray's client, through which data sets are not read: start the run on a "
            "machine of the cluster with --ray auto, or hand it in with `ray job submit`."
        )
    if find_spec("ray") is None:
        raise NoRayError
    with _quiet():
        import ray

        mine = not ray.is_initialized()
        if mine:
            _join(address)
        try:
            yield
        finally:
            if mine:
                ray.shutdown()


def room(limit: int | None = None) -> Room:
    """One worker a GPU; where the cluster has none, one a processor, of one thread.

    Args:
        limit: of the number of workers.

    Raises:
        ClusterError: there is room for none.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus, processors = (sum(int(node.get(name, 0)) for node in nodes) for name in ("GPU", "CPU"))
    found = Room(gpus, {"num_gpus": 1, "num_cpus": 0}, None) if gpus else None
    found = found or Room(processors, {"num_gpus": 0, "num_cpus": 1 - READING}, 1)
    if not found.workers:
        raise ClusterError(
            f"The cluster has {len(nodes)} machines and neither a GPU nor a whole processor to give: start Ray on "
            "them with --num-gpus or --num-cpus."
        )
    return found if limit is None else Room(min(limit, found.workers), found.resources, found.threads)


def _join(address: str) -> None:
    import ray

    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.WARNING}
    if address != "local":
        try:
            ray.init(**options)
        except Exception as error:  # Ray raises plain ones too
            raise ClusterError(
                f"No Ray cluster can be reached at {address!r} ({_reason(error)}): start one with `ray start --head` "
                "and try again, or give --ray local for one made here."
            ) from error
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for attempt in range(1, LOCAL_STARTS + 1):
        try:
            ray.init(include_dashboard=False, **options)
        except Exception as error:
            # Ray gives its processes 30 seconds and no option for more, which a busy machine can need.
            if attempt == LOCAL_STARTS:
                raise ClusterError(
                    f"Ray could not be started on this machine in {LOCAL_STARTS} attempts ({_reason(error)}): leave "
                    "the machine to itself for a moment and try again, or run without --ray."
                ) from error
        else:
            return


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Ray says of itself: its own deprecated options, a default to come, every window that it reads."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"ray\.")
        warnings.filterwarnings("ignore", "Tip: In future versions of Ray", category=FutureWarning)
        import ray.data

        logger = logging.getLogger(ray.data.__name__)
        before = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(before)
