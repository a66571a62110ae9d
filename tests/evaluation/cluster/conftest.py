"""One cluster of two nodes for all tests: processes of their own, one processor each."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from references.cluster import node_options, started

from refam_analysis.evaluation.cluster.connecting import connected

TESTS = Path(__file__).parents[2]

pytest.importorskip("ray", reason="the extra `distributed` is not installed")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # whatever token the home folder has
        patch.setenv("RAY_worker_niceness", "0")  # else they wait for everything else on the machine
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)  # workers load the tests' own models
        from ray.cluster_utils import Cluster

        logging.getLogger("ray").setLevel(logging.CRITICAL)
        head = {"include_dashboard": False}
        made = started(lambda: Cluster(initialize_head=True, head_node_args={**head, **node_options()}))
        stack.callback(made.shutdown)
        started(lambda: made.add_node(**node_options()))
        stack.enter_context(connected(made.address))  # once: processes that have their libraries are used again
        yield made


@pytest.fixture
def two_nodes(cluster: Any) -> Any:
    """The cluster, with a second node again where a test has ended it."""
    if len(cluster.worker_nodes) == 0:
        started(lambda: cluster.add_node(**node_options()))
    return cluster
