"""What runs on a GPU of a cluster: models, loaded once, and tasks, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refam_analysis.evaluation.cluster.errors import ClusterError
from refam_analysis.evaluation.cluster.reading import ReadPicture
from refam_analysis.evaluation.datasets.base import ReferringImage
from refam_analysis.evaluation.runner.configuration import RunConfiguration
from refam_analysis.evaluation.runner.description import describe_models, device_of
from refam_analysis.evaluation.runner.groups import GroupError, GroupTask, LoadedModels, evaluate_group
from refam_analysis.evaluation.runner.rows import Row

Load = Callable[[RunConfiguration], LoadedModels]
"""Loads what a run needs, on the worker's machine."""


class Worker:
    """An actor of Ray, without Ray.

    Args:
        load: loads the models.
        configuration: of the run.
        threads: of PyTorch; None for its own choice.
    """

    def __init__(self, load: Load, configuration: RunConfiguration, threads: int | None) -> None:
        self._load, self._configuration, self._threads = load, configuration, threads

    def load(self) -> tuple[dict[str, Any], dict[str, str]]:
        """Load the models.

        Returns:
            What answers, as :func:`~refam_analysis.evaluation.runner.description.describe_models` says it; and where:
            ``node``, ``device``.

        Raises:
            ClusterError: they cannot be loaded here.
        """
        import ray
        import torch

        if self._threads is not None:
            torch.set_num_threads(self._threads)
        try:
            self._loaded = self._load(self._configuration)
        except Exception as error:
            raise ClusterError(f"A worker cannot load the models. {type(error).__name__}: {error}") from error
        where = {"node": ray.get_runtime_context().get_node_id(), "device": device_of(self._loaded)}
        return describe_models(self._loaded), where

    def answer(self, task: GroupTask) -> list[Row]:
        """The rows of a task.

        Raises:
            GroupError: an expression cannot be answered, and the task says to stop.
            ClusterError: names the item over which something else went wrong.
        """
        try:
            rows = evaluate_group(task, self._loaded)
        except GroupError:
            raise
        except Exception as error:
            raise ClusterError(f"{task.item.key}: {type(error).__name__}: {error}") from error
        picture = task.item.picture if isinstance(task.item, ReferringImage) else None
        if isinstance(picture, ReadPicture):
            for row in rows:
                row["seconds_load"] += picture.seconds / len(rows)
        return rows
