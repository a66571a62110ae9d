"""The workers that hold the models, one a GPU, and the hand that gives them tasks and takes their rows.

Ray Data reads the pictures (:mod:`refam_analysis.evaluation.cluster.reading`), but its own pool of actors is not used:
a dead actor keeps its place in it, and a run can wait for ever (github.com/ray-project/ray/issues/62746); and a task
that killed one is handed to the next as it is. Here what a dead worker had goes to the others, smaller if it may have
been the cause, and another worker is asked for in its place.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from refam_analysis.evaluation.cluster.connecting import Room
from refam_analysis.evaluation.cluster.errors import ClusterError
from refam_analysis.evaluation.cluster.pieces import Gathering, Piece
from refam_analysis.evaluation.cluster.reading import Ahead, read_ahead
from refam_analysis.evaluation.cluster.worker import Load, Worker
from refam_analysis.evaluation.runner.configuration import RunConfiguration
from refam_analysis.evaluation.runner.description import differences
from refam_analysis.evaluation.runner.groups import GroupTask
from refam_analysis.evaluation.runner.rows import Row

AT_ONCE = 2
"""Pieces that a worker has: the one it works on, and the next, so that it never waits for the driver."""
STARTS = 3
"""Workers that may die one after the other while they load the models."""
_NODE_DIED = "node has died"
"""In what Ray says of an actor that went down with its machine."""


@dataclass(eq=False)
class _Hired:
    """A worker, as the driver sees it; its pieces by the reference of their rows, in the order of work."""

    actor: Any
    where: Mapping[str, str]
    running: dict[Any, Piece] = field(default_factory=dict)


class Workers:
    """The workers of a run. Enter it to have them started, leave it to have them ended.

    Args:
        configuration: of the run.
        room: how many, and of what size.
        load: loads the models, on the worker's machine.
        patience: seconds without any worker after which the run ends.

    Attributes:
        description: what answers, the same on every machine; known once it is entered.
    """

    def __init__(self, configuration: RunConfiguration, room: Room, *, load: Load, patience: float = 900.0) -> None:
        import ray

        kind = ray.remote(Worker).options(max_restarts=0, max_task_retries=0, **room.resources)
        self._create: Callable[[], Any] = lambda: kind.remote(load, configuration, room.threads)
        self._room, self._patience = room, patience
        self._loading: dict[Any, Any] = {}
        self._hired: list[_Hired] = []
        self._again: deque[Piece] = deque()
        self._last_seen = time.monotonic()
        self._deaths_at_start = 0
        self.description: dict[str, Any] = {}

    def __enter__(self) -> Workers:
        for _ in range(self._room.workers):
            self._hire()
        try:
            while not self._hired:
                self._arrive(self._ready(5.0))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        for actor in [*self._loading.values(), *(hired.actor for hired in self._hired)]:
            ray.kill(actor)
        self._loading, self._hired = {}, []

    @property
    def noted(self) -> dict[str, Any]:
        """What is noted of a start: ``device`` and ``workers``."""
        devices = sorted({hired.where["device"] for hired in self._hired})
        return {"device": ", ".join(devices), "workers": self._room.workers}

    def answer(self, tasks: Iterable[GroupTask]) -> Iterator[list[Row]]:
        """Carry out tasks; see :data:`~refam_analysis.evaluation.runner.running.Way`.

        Args:
            tasks: taken as workers become free.

        Raises:
            GroupError: an expression cannot be answered, and its task says to stop.
            ClusterError: workers cannot load the models, answer differently, or are all gone.
        """
        gathering = Gathering()
        source = read_ahead(tasks, readers=self._room.workers)
        with Ahead(source, size=AT_ONCE * self._room.workers) as ahead:
            while self._again or not ahead.finished or any(hired.running for hired in self._hired):
                hungry = self._hand_out(ahead)
                done = self._ready(0.02 if hungry else 1.0)
                self._arrive(done)
                for piece, rows in self._collect(done):
                    if whole := gathering.add(piece, piece.renumbered(rows)):
                        yield whole

    def _hire(self) -> None:
        actor = self._create()
        self._loading[actor.load.remote()] = actor

    def _hand_out(self, ahead: Ahead) -> bool:
        """Give every worker its pieces, first those that are done again; say whether one could do more."""
        while self._hired:
            free = min(self._hired, key=lambda hired: len(hired.running))
            if len(free.running) >= AT_ONCE:
                return False
            if self._again:
                piece = self._again.popleft()
            elif (task := ahead.take()) is not None:
                piece = Piece.of(task)
            else:
                return not ahead.finished
            free.running[free.actor.answer.remote(piece.task)] = piece
        return False

    def _ready(self, wait: float) -> list[Any]:
        """References of what is done: workers that have loaded, pieces that are answered, and either's failure."""
        import ray

        if self._hired:
            self._last_seen = time.monotonic()
        elif time.monotonic() - self._last_seen > self._patience:
            raise ClusterError(
                f"For {self._patience:.0f} seconds no worker has been there: the cluster has no room for one of "
                f"{self._room.resources}, or its machines are gone. What is finished is kept: start again to go on."
            )
        waiting = [*self._loading, *(reference for hired in self._hired for reference in hired.running)]
        if not waiting:
            time.sleep(min(wait, 0.02))
            return []
        done, _ = ray.wait(waiting, num_returns=1, timeout=wait)
        return ray.wait(waiting, num_returns=len(waiting), timeout=0)[0] if done else []

    def _arrive(self, done: Sequence[Any]) -> None:
        """Welcome the workers that have loaded."""
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        for reference in [one for one in done if one in self._loading]:
            actor = self._loading.pop(reference)
            try:
                description, where = ray.get(reference)
            except RayTaskError as error:
                raise _told(error) from None
            except RayActorError as error:
                self._try_another(error)
                continue
            self._deaths_at_start = 0
            self._compare(description, where["node"])
            self._hired.append(_Hired(actor, where))

    def _try_another(self, error: Any) -> None:
        """In the place of a worker that died before its models were loaded."""
        if error.actor_init_failed:
            raise ClusterError(f"A worker cannot be started: {_reason(error)}. Install the same on all machines.")
        self._deaths_at_start += _NODE_DIED not in str(error)
        if self._deaths_at_start > STARTS:
            raise ClusterError(
                f"Workers die while they load the models ({_reason(error)}): is there enough memory for one of them on "
                "every GPU or processor?"
            )
        self._hire()

    def _compare(self, description: dict[str, Any], node: str) -> None:
        """Rows of one run follow from the same weights and versions, on every machine."""
        self.description = self.description or description
        if differ := differences(self.description, description):
            shown = "; ".join(f"{name} is {one!r} and {other!r}" for name, (one, other) in differ.items())
            raise ClusterError(f"The machines answer differently: {shown} (on node {node}). Install the same on all.")

    def _collect(self, done: Sequence[Any]) -> Iterator[tuple[Piece, list[Row]]]:
        """The rows of finished pieces; what a dead worker had is put back."""
        import ray
        from ray.exceptions import RayActorError, RayError, RayTaskError

        for hired in list(self._hired):
            for reference in [one for one in done if one in hired.running]:
                try:
                    rows = ray.get(reference)
                except RayTaskError as error:
                    raise _told(error) from None
                except RayActorError as error:
                    yield from self._bury(hired, error)
                    break
                except RayError:  # the rows were lost on their way
                    self._again.append(hired.running.pop(reference))
                else:
                    yield hired.running.pop(reference), rows

    def _bury(self, hired: _Hired, error: Exception) -> Iterator[tuple[Piece, list[Row]]]:
        """Take the pieces of a dead worker back, and ask for another worker."""
        import ray
        from ray.exceptions import RayError

        self._hired.remove(hired)
        ray.kill(hired.actor)  # it may only be out of reach
        self._hire()
        left = []
        for reference, piece in hired.running.items():
            try:
                yield piece, ray.get(reference, timeout=0)
            except RayError:
                left.append(piece)
        if left and not self._went_with_its_machine(hired, error):
            first = left.pop(0)
            smaller = first.smaller()
            self._again.extend(smaller)
            if not smaller:
                yield first, first.lost(_reason(error))
        self._again.extend(left)

    def _went_with_its_machine(self, hired: _Hired, error: Exception) -> bool:
        import ray

        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        return _NODE_DIED in str(error) or hired.where["node"] not in alive


def _told(error: Exception) -> Exception:
    """What a worker raised, without the traceback of its machine."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, Exception) else ClusterError(str(error))


def _reason(error: Exception) -> str:
    """The last line of what Ray says of a death, which has the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
