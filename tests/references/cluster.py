"""Nodes of a Ray cluster on this machine, and models that run out of memory, in a module that workers import."""

from __future__ import annotations

import copy
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from refam_analysis.evaluation.runner import LoadedModels, RunConfiguration, load_models

SETTINGS = {"seeds": 1}
"""Of heatmaps: one draw of noise, so that a run takes seconds."""

DEADLY, HEAVY, BROKEN = "deadly", "heavy", "broken"
"""Words of expressions: over the first a worker dies, the second takes all memory unless it is asked for alone, the
third always does."""

_PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")


def started(start: Callable[[], Any], *, tries: int = 4) -> Any:
    """A node or a cluster. Ray gives up on one whose agent takes over 15 seconds to tell its port, which on a busy
    machine happens (github.com/ray-project/ray/issues/65983): then another try."""
    for left in reversed(range(tries)):
        try:
            return start()
        except Exception as error:
            if left == 0 or "timed out during startup" not in str(error):
                raise
    raise AssertionError("no try is left")


def node_options(processors: int = 1) -> dict[str, Any]:
    """Of a small node. Ports are given where that spares a wait for an agent to choose one; see ``started``."""
    sockets = [socket.socket() for _ in _PORTS]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = {name: one.getsockname()[1] for name, one in zip(_PORTS, sockets, strict=True)}
    for one in sockets:
        one.close()
    return {"num_cpus": processors, "num_gpus": 0, "object_store_memory": 100_000_000, **ports}


def load_greedy(configuration: RunConfiguration) -> LoadedModels:
    """The embedded models, of which some expressions take more memory than there is."""
    loaded = load_models(configuration)
    model = copy.copy(loaded.model)

    def encode_prompts(prompts: Sequence[Any]) -> Any:
        texts = [prompt.text for prompt in prompts]
        if any(DEADLY in text for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)  # what the system does to the process that takes too much
        if any(BROKEN in text for text in texts) or (len(texts) > 1 and any(HEAVY in text for text in texts)):
            np.empty(2**60, dtype=np.uint8)
        return loaded.model.encode_prompts(prompts)

    model.encode_prompts = encode_prompts  # type: ignore[method-assign]
    return LoadedModels(model, loaded.segmenter, loaded.settings)
