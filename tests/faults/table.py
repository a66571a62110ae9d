"""Every pair of a place and a kind: the fault is brought about, the job goes on, and its data is compared."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from faults import making_places, reading_places
from faults.kinds import KINDS, Disk, Kind, Watch, damaged, set_limit, struck
from faults.places import Place, Tools
from faults.running import Ended, forked, leftovers

PLACES: dict[str, Place] = {**reading_places.PLACES, **making_places.PLACES}


@dataclass(frozen=True)
class Fault:
    """A place and a kind, by name."""

    place: str
    kind: str

    def __str__(self) -> str:
        return f"{self.place}-{self.kind}"


ALL = tuple(Fault(place, kind) for place in PLACES for kind in KINDS)

_CHEAP = ("result", "weights")
_SHARE = 7
_SHOWN = 5
TESTED = tuple(
    fault
    for fault in ALL
    if fault.place in _CHEAP or (list(KINDS).index(fault.kind) + list(PLACES).index(fault.place)) % _SHARE == 0
)
"""Those that the tests bring about: all at the cheap places, and at each other place some, other ones at each."""


@dataclass
class Outcome:
    """What became of a fault.

    Attributes:
        place, kind: which.
        applies: whether it can happen there: a job that deletes nothing is not killed while it deletes.
        why_not: it does not apply.
        fault: how the disturbed run ended, or the file that was damaged.
        said: what it said.
        again: how the next start ended.
        said_again: what it said; an error must name what is wrong.
        noticed: damage was found by the next start, or by reading.
        remedied: the folder was deleted as the error advised, and the job done anew.
        equal: the final data is that of an undisturbed run.
        differs: the first parts of it that are not.
        left: what only an unfinished write has, and is still there.
    """

    place: str
    kind: str
    applies: bool = True
    why_not: str = ""
    fault: str = ""
    said: str = ""
    again: str = ""
    said_again: str = ""
    noticed: bool = False
    remedied: bool = False
    equal: bool = False
    differs: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Nothing crashed, hung or was lost, no number is wrong, and errors name what they are about."""
        bad = {"crashed", "hung"} & {self.fault, self.again}
        return not self.applies or (not bad and self.equal and not self.left and self._named)

    @property
    def _named(self) -> bool:
        return self.again != "told" or "'" in self.said_again or "/" in self.said_again

    def entries(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "sound": self.sound}


@dataclass(frozen=True)
class Undisturbed:
    """What a job does when nothing happens.

    Attributes:
        data: what it comes to.
        counts: of events.
        bytes: of all its files; ``largest``: of one.
    """

    data: dict[str, str]
    counts: dict[str, int]
    bytes: int
    largest: int


class Faults:
    """Brings faults about, one after the other.

    Args:
        tools: for the jobs.
        folder: for their files, on a fast disk.
    """

    def __init__(self, tools: Tools, folder: Path) -> None:
        self.tools, self.folder = tools, folder
        self._known: dict[str, Undisturbed] = {}

    def outcome(self, fault: Fault) -> Outcome:
        """Of one fault."""
        place, kind, outcome = PLACES[fault.place], KINDS[fault.kind], Outcome(fault.place, fault.kind)
        whole = self._undisturbed(fault.place)
        folder = self.folder / str(fault)
        if kind.moment is not None and not kind.moment.number(whole.counts):
            outcome.applies, outcome.why_not = False, f"the job has no {kind.moment.event}"
            return outcome
        disk = Disk(folder) if kind.way in ("disk", "read-only") else None
        try:
            if disk is not None and not disk.mount(max(4096, int(whole.bytes * (kind.share or 20)))):
                outcome.applies, outcome.why_not = False, "only root may mount a small disk"
                return outcome
            folder.mkdir(exist_ok=True)
            self._disturb(place, kind, folder, whole, outcome, disk)
            if outcome.applies:
                self._go_on(place, folder, whole, outcome)
        finally:
            if disk is not None:
                disk.unmount()
            shutil.rmtree(folder, ignore_errors=True)
        return outcome

    def _disturb(
        self, place: Place, kind: Kind, folder: Path, whole: Undisturbed, outcome: Outcome, disk: Disk | None
    ) -> None:
        at = kind.moment.number(whole.counts) if kind.moment else 0
        watch = Watch(folder, at, kind.moment.event if kind.moment else "any", struck(kind))

        def disturbed() -> None:
            if kind.way == "limit":
                set_limit(kind, whole.largest)
            if at:
                watch.start()
            place.run(self.tools, folder)

        _note(outcome, forked(disturbed))
        if kind.again:
            _note(outcome, forked(disturbed))
        if disk is not None and kind.way == "read-only":
            disk.remount(2**30, read_only=True)
            _note(outcome, forked(disturbed))
        if disk is not None:
            disk.remount(2**30)
        if kind.way in ("damage", "finished-damage"):
            path = damaged(kind, folder, f"{outcome.place} {outcome.kind}")
            outcome.applies, outcome.why_not = path is not None, "" if path else "there is no such file"
            outcome.said = f"{kind.damage}: {path.relative_to(folder)}" if path else ""

    def _go_on(self, place: Place, folder: Path, whole: Undisturbed, outcome: Outcome) -> None:
        """Start the job again, as often as an error says what to do about it, and compare."""
        again = forked(lambda: place.run(self.tools, folder))
        outcome.again, outcome.said_again = again.how, again.said
        ended = again if again.how != "finished" else self._data(place, folder)
        if again.how == "finished" and ended.how != "finished":
            outcome.again, outcome.said_again = ended.how, ended.said
        outcome.noticed = ended.how == "told"
        if ended.how == "told":
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(exist_ok=True)
            forked(lambda: place.run(self.tools, folder))
            ended, outcome.remedied = self._data(place, folder), True
        data = ended.value or {}
        differs = sorted(name for name in {*data, *whole.data} if data.get(name) != whole.data.get(name))
        outcome.equal, outcome.differs, outcome.left = not differs, differs[:_SHOWN], leftovers(folder)

    def _data(self, place: Place, folder: Path) -> Ended:
        return forked(lambda: dict(place.data(self.tools, folder)))

    def _undisturbed(self, name: str) -> Undisturbed:
        if name in self._known:
            return self._known[name]
        place, folder = PLACES[name], self.folder / f"{name}-undisturbed"
        folder.mkdir(parents=True)

        def watched() -> dict[str, int]:
            watch = Watch(folder)
            watch.start()
            place.run(self.tools, folder)
            return watch.counts

        if place.needs is not None:
            self._quietly(name, lambda: place.needs and place.needs(self.tools) and None)
        counts = self._quietly(name, watched)
        data = self._quietly(name, lambda: dict(place.data(self.tools, folder)))
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        self._known[name] = Undisturbed(data, counts, sum(sizes), max(sizes))
        shutil.rmtree(folder)
        return self._known[name]

    def _quietly(self, name: str, work: Callable[[], Any]) -> Any:
        """What undisturbed work returns. What it imports is imported here too, so that later processes need not."""

        def noting_imports() -> tuple[Any, list[str]]:
            before = set(sys.modules)
            value = work()
            return value, [module for module in sys.modules if module not in before]

        ended = forked(noting_imports)
        if ended.how != "finished":
            raise RuntimeError(f"{name} {ended.how} undisturbed: {ended.said}")
        value, modules = ended.value
        for module in modules:
            with suppress(Exception):
                importlib.import_module(module)
        return value


def _note(outcome: Outcome, ended: Ended) -> None:
    """Keep how a disturbed run ended; of several the worst."""
    order: Sequence[str] = ("", "finished", "killed", "told", "hung", "crashed")
    if order.index(ended.how) >= order.index(outcome.fault):
        outcome.fault, outcome.said = ended.how, ended.said
