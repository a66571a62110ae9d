"""Tasks that can be made smaller, and rows that are put together again. No Ray in here.

A worker that dies over an item, most often for want of memory, has its work done again in halves, and so on down to one
expression: then the one that cannot be answered is known by name, and the others have their rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from refam_analysis.evaluation.cluster.errors import WorkerLostError
from refam_analysis.evaluation.datasets.base import ClipExpression, ReferringExpression
from refam_analysis.evaluation.runner.groups import Clock, GroupTask, failed_answer, first_entries, stop_or
from refam_analysis.evaluation.runner.rows import Row

ALONE = 2
"""How often an expression is tried by itself before its row says that it cannot be answered."""


@dataclass(frozen=True)
class Piece:
    """A task, or a part of one: neighbouring expressions of one image or clip.

    Attributes:
        task: with these expressions only.
        first: number of the first of them in its image or clip.
        whole: how many expressions the image or clip has.
        deaths: how many workers died over these expressions alone.
    """

    task: GroupTask
    first: int
    whole: int
    deaths: int = 0

    @classmethod
    def of(cls, task: GroupTask) -> Piece:
        """All of a task."""
        return cls(task, 0, len(task.item.expressions))

    def __len__(self) -> int:
        return len(self.task.item.expressions)

    def smaller(self) -> list[Piece]:
        """The two halves; of a single expression itself, to be tried again; none where it was tried enough."""
        if len(self) == 1:
            return [replace(self, deaths=self.deaths + 1)] if self.deaths + 1 < ALONE else []
        middle = len(self) // 2
        return [self._part(0, middle), self._part(middle, len(self))]

    def renumbered(self, rows: list[Row]) -> list[Row]:
        """Rows of this piece, as rows of its image or clip."""
        return [{**row, "number": self.first + row["number"]} for row in rows]

    def lost(self, reason: str) -> list[Row]:
        """The rows where no worker survives, numbered as a worker numbers them.

        Args:
            reason: what is known of how the last one died.

        Raises:
            GroupError: the task says to stop.
        """
        error = WorkerLostError(f"the worker died {self.deaths + 1} times over this expression alone ({reason})")
        rows = []
        expressions: Sequence[ReferringExpression | ClipExpression] = self.task.item.expressions
        for number, expression in enumerate(expressions):
            stop_or(self.task, expression.text, error)
            labels = first_entries(self.task, number, expression)
            rows.append({**labels, **failed_answer(expression, error), **Clock().shares(1)})
        return rows

    def _part(self, start: int, stop: int) -> Piece:
        item = self.task.item
        part = replace(item, expressions=item.expressions[start:stop])  # type: ignore[arg-type]
        return replace(self, task=replace(self.task, item=part), first=self.first + start)


class Gathering:
    """Rows of pieces, until an image or clip is complete. Each is given out once, however often its rows come.

    >>> Gathering().complete
    0
    """

    def __init__(self) -> None:
        self._waiting: dict[int, dict[int, Row]] = {}
        self._given: set[int] = set()

    @property
    def complete(self) -> int:
        """How many images or clips were given out."""
        return len(self._given)

    def add(self, piece: Piece, rows: list[Row]) -> list[Row]:
        """Take the rows of a piece.

        Args:
            piece: that was worked on.
            rows: renumbered, one an expression.

        Returns:
            All rows of the image or clip, in the order of its expressions, where these were the last; else none.
        """
        group = piece.task.group
        if group in self._given:
            return []
        there = self._waiting.setdefault(group, {})
        there.update({row["number"]: row for row in rows})
        if len(there) < piece.whole:
            return []
        self._given.add(group)
        del self._waiting[group]
        return [there[number] for number in sorted(there)]
