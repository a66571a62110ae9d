"""What can be wrong with a data set on disk: errors that name file and item, and the list of what was left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from refam_analysis.errors import RefamError

OnError = Literal["raise", "skip"]
"""What a reader does with an item that it cannot use: end with an error, or leave it out and list it."""


@dataclass(frozen=True)
class Problem:
    """One item that cannot be used.

    Attributes:
        file: path of the file at fault.
        item: which entry of it, such as ``"ref 12, sentence 3"``; empty where it is the whole file.
        reason: what is wrong.
    """

    file: str
    item: str
    reason: str

    def __str__(self) -> str:
        return f"{self.file}{', ' + self.item if self.item else ''}: {self.reason}"


class DatasetError(RefamError, ValueError):
    """A data set that cannot be read as asked."""


class UnknownDatasetError(DatasetError):
    """No data set, or no split of it, has this name."""

    def __init__(self, what: str, name: str, known: Sequence[str]) -> None:
        super().__init__(f"There is no {what} {name!r}: choose one of {', '.join(known)}.")


class DatasetFileError(DatasetError):
    """A file without which nothing of the data set can be read is missing, cut, or something else."""

    def __init__(self, file: str, reason: str, advice: str = "") -> None:
        self.problem = Problem(file, "", reason)
        super().__init__(f"{self.problem}. {advice or 'Copy it again from the release.'}")

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (type(self), self.args, self.__dict__)


class EmptySplitError(DatasetError):
    """The files of a data set are there, but name nothing of a split."""

    def __init__(self, root: str, split: str, advice: str) -> None:
        self.problem = Problem(root, f"split {split}", "it has no items")
        super().__init__(f"{self.problem}. {advice}")

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (type(self), self.args, self.__dict__)


class DatasetItemError(DatasetError):
    """One item of the data set is broken or incomplete; the others may be good."""

    def __init__(self, file: str, item: str, reason: str) -> None:
        self.problem = Problem(file, item, reason)
        super().__init__(
            f"{self.problem}. Copy the file again from the release, or leave such items out with on_error='skip'."
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _again, (type(self), self.args, self.__dict__)


_BROKEN = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError)
"""What reading an entry of another format raises."""


def _reason(cause: Exception) -> str:
    if isinstance(cause, RefamError):
        return str(cause).rstrip(".")
    return f"it has no {cause.args[0]!r}" if isinstance(cause, KeyError) else f"it is not of the format ({cause})"


def _again(kind: type[DatasetError], args: tuple[object, ...], state: dict[str, object]) -> DatasetError:
    """An error as it was on the other side of a process: its constructor takes something else than its message."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


@dataclass
class Tally:
    """Collects what a reader leaves out.

    >>> tally = Tally("skip")
    >>> with tally.item("refs(unc).p", "ref 3"):
    ...     raise DatasetItemError("refs(unc).p", "ref 3", "it has no sentences")
    >>> [problem.reason for problem in tally.problems]
    ['it has no sentences']
    """

    on_error: OnError
    problems: list[Problem] = field(default_factory=list)

    def each(self, file: str, what: str, entries: Iterable[Any], read: Callable[[Any], object]) -> None:
        """Read every entry of a list as :meth:`item` does; "image number 3" is the fourth of what is "image".

        Args:
            file: that the list is in.
            what: an entry is.
            entries: of the list.
            read: takes an entry; where it raises it is called once more, so that nothing slows down the good ones.
        """
        for number, entry in enumerate(entries):
            try:
                read(entry)
            except (*_BROKEN, DatasetItemError):
                with self.item(file, f"{what} number {number}"):
                    read(entry)

    @contextmanager
    def item(self, file: str, item: str) -> Iterator[None]:
        """Read one item: what is wrong with it is raised, or listed and passed over.

        Entries that lack what the format promises (a key, a number where a list should be) count as wrong too.
        """
        try:
            yield
        except DatasetFileError:
            raise
        except DatasetItemError as found:
            if self.on_error == "raise":
                raise
            self.problems.append(found.problem)
        except _BROKEN as cause:
            broken = DatasetItemError(file, item, _reason(cause))
            if self.on_error == "raise":
                raise broken from cause
            self.problems.append(broken.problem)
