"""All alarms of a site: roll-up, suppression by design and first-out on top of each alarm's own life. Pure; no clock.

Bounded by design: of each code at most FEW elements have alarms of their own, all others are one alarm together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.alarms import machine
from controller.alarms.catalog import PRIORITIES, Catalog, Kind, catalog
from controller.alarms.findings import ANY, SITE, Finding
from controller.alarms.flood import Flood
from controller.alarms.machine import STANDING, Record, State

FEW = 3  # elements of one code that have an alarm of their own
ASIDE = 200  # alarms that may be shelved or out of service
BURST_S = 60.0  # after so long without a new alarm the next one is first-out
CAUSE_S = 10.0  # a cause that is seen so late still takes first-out from what it explains
GROWN = 2  # a roll-up that was seen and has so many times the elements must be seen again
LONGEST_SHELF_S = 7 * 86400.0


class AlarmError(ValueError):
    """An act on an alarm that cannot be taken; the message says why."""


@dataclass(frozen=True)
class Change:
    """A transition, for journal, hooks and lists."""

    at_ms: int
    id: str
    code: str
    element: str
    priority: str
    text: str
    was: str
    now: str
    first_out: bool = False
    by: str = ""
    why: str = ""


class Board:
    """The alarms of one site; `step` once a cycle, `act` for what operators do."""

    def __init__(self, kinds: Catalog | None = None) -> None:
        self.kinds = kinds or catalog()
        self.records: dict[str, dict[str, Record]] = {code: {} for code in self.kinds}
        self.suppressed: dict[str, int] = {}  # code -> elements that a standing cause explains
        self.flood = Flood()
        self._burst_s = self._first_s = float("-inf")
        self._first: Record | None = None

    def step(self, now_s: float, now_ms: int, found: Sequence[Finding], blind: bool = False) -> list[Change]:
        """Let time pass to `now_s` with what is found now; `blind`: what is not seen is not gone.

        Causes go first, so that what they explain is not raised in the same cycle.
        """
        by_code = {x.code: x for x in found}
        moved: list[tuple[Record, State]] = []
        raised: list[Record] = []
        for code, kind in self.kinds.items():
            before = {name: r.state for name, r in self.records[code].items()}
            for record, stands in self._sorted(kind, by_code.get(code), now_s):
                times = record.raised
                machine.advance(record, now_s, now_ms, stands, blind)
                was = before.get(record.element, State.NORMAL)
                if record.state is not was:
                    moved.append((record, was))
                if record.raised > times:
                    raised.append(record)
            self.records[code] = {k: r for k, r in self.records[code].items() if not r.over}
        self._first_out(raised, now_s)
        for record in raised:
            self.flood.raised(now_s, record.id)
        return [_change(record, was, now_ms) for record, was in moved]

    def _sorted(self, kind: Kind, finding: Finding | None, now_s: float) -> list[tuple[Record, bool]]:
        """The code's records and whether each one's condition stands; new elements get a record or join the roll-up."""
        records = self.records[kind.code]
        excess = dict(finding.excess) if finding else {}
        explained = self._explained(kind, finding)
        self.suppressed[kind.code] = len(explained)
        for name, record in records.items():
            record.suppressed = name in explained
        rolled = records.get(SITE)
        near = rolled is not None and rolled.active
        rolling = rolled is not None and SITE not in excess and (near or rolled.on_s is not None)
        new = [
            name
            for name, x in excess.items()
            if name not in records and name not in explained and x > (-kind.deadband if near else 0.0)
        ]
        own = [r for name, r in records.items() if name != SITE and not (r.out or r.shelved_until_s)]
        if new and SITE not in excess and (rolling or len(own) + len(new) > FEW):
            self._roll(kind, own, new, now_s)
        else:
            for name in new:
                records[name] = Record(kind, name, first_seen(finding, name))
            new = []
        return list(self._stands(kind, finding, excess, explained, new))

    def _roll(self, kind: Kind, own: list[Record], new: list[str], now_s: float) -> None:
        """One alarm for all new elements, and for those that still wait for their on-delay: their time counts."""
        records = self.records[kind.code]
        rolled = records.setdefault(SITE, Record(kind, SITE))
        for record in own:
            if record.process is State.NORMAL and record.on_s is not None:
                if not rolled.active:
                    rolled.on_s = min(record.on_s, now_s if rolled.on_s is None else rolled.on_s)
                del records[record.element]
                new.append(record.element)

    def _stands(
        self, kind: Kind, finding: Finding | None, excess: Mapping[str, float], explained: set[str], new: list[str]
    ) -> Iterator[tuple[Record, bool]]:
        for name, record in self.records[kind.code].items():
            if name == SITE and SITE not in excess:
                stands, record.members = bool(new), len(new)
                self._regrown(record)
            else:
                waits = name in explained and not record.active
                stands = machine.present(record, excess.get(name)) and not waits
            if stands and finding is not None and finding.stands:
                record.text = finding.text if name == SITE else finding.texts.get(name, record.text or finding.text)
            yield record, stands

    def _regrown(self, record: Record) -> None:
        if record.process is State.ACKED and record.members >= max(GROWN * record.seen, record.seen + FEW):
            record.process, record.acked_by = State.NORMAL, ""  # raised again in this step
            record.on_s = float("-inf")

    def _explained(self, kind: Kind, finding: Finding | None) -> set[str]:
        """Elements that the loss of another explains, as long as that one's alarm is active."""
        if finding is None or not finding.because:
            return set()
        causes = [r for k in self.kinds.values() if kind.code in k.suppresses for r in self.records[k.code].values()]
        active = {r.element for r in causes if r.active}
        anything = bool(active)
        return {
            name
            for name, cause in finding.because.items()
            if name in finding.excess and (cause in active or SITE in active or (anything and cause == ANY))
        }

    def _first_out(self, raised: list[Record], now_s: float) -> None:
        """The first alarm of a burst is marked, of those of one cycle the cause.

        A cause (what suppresses others) begins a burst of its own, unless a cause stands first already; from what it
        explains it takes the mark over, when it was seen only seconds later.
        """
        if not raised:
            return
        first, now = min(raised, key=lambda r: r.kind.rank), self._first
        if now_s - self._burst_s > BURST_S or now is None:
            self._mark(first, now_s)
        elif first.kind.suppresses and not (now.kind.suppresses and now.active):
            if now_s - self._first_s <= CAUSE_S and now.kind.code in first.kind.suppresses:
                now.first_out = False
            self._mark(first, now_s)
        self._burst_s = now_s

    def _mark(self, record: Record, now_s: float) -> None:
        record.first_out = True
        self._first, self._first_s = record, now_s

    def act(self, act: Mapping[str, Any], now_s: float, now_ms: int) -> list[Change]:
        """Take one checked act (controller.acts); AlarmError says why it changes nothing.

        An acknowledgement is of what stood when it was given: one that is read again later acknowledges nothing new.
        """
        by, why, at_ms = str(act.get("by", ""))[:80], str(act.get("why", ""))[:400], int(act.get("at_ms", now_ms))
        if act["act"] == "ack":
            wanted = [r for r in self._all() if act["alarm"] in (r.id, "all") and r.since_ms <= at_ms]
            wanted = [r for r in wanted if act.get("since_ms") in (None, r.since_ms)]
            return [c for r in wanted if (c := self._moved(r, lambda r=r: machine.acknowledge(r, by), at_ms, by, why))]
        record = self._record(str(act["alarm"]))
        if act["act"] == "shelve":
            until_ms = at_ms + round(1000 * min(float(act["for_s"]), LONGEST_SHELF_S))
            if until_ms <= now_ms:
                return []
            self._room(record)
            change = self._moved(
                record,
                lambda: machine.shelve(record, by, now_s + (until_ms - now_ms) / 1000, until_ms),
                at_ms,
                by,
                why,
            )
        elif act["act"] == "out_of_service":
            self._room(record)
            change = self._moved(record, lambda: machine.out_of_service(record, by), at_ms, by, why)
        else:
            back = machine.unshelve if act["act"] == "unshelve" else machine.in_service
            change = self._moved(record, lambda: back(record), at_ms, by, why)
        return [change] if change else []

    def _moved(self, record: Record, move: Any, at_ms: int, by: str, why: str) -> Change | None:
        was = record.state
        move()
        if record.over:
            self.records[record.kind.code].pop(record.element, None)
        return None if record.state is was else _change(record, was, at_ms, by, why)

    def _record(self, name: str) -> Record:
        code, _, element = name.partition("/")
        if code not in self.kinds or not element:
            raise AlarmError(f"alarm {name!r} is not one: give CODE/ELEMENT as the list shows it")
        return self.records[code].setdefault(element, Record(self.kinds[code], element, self.kinds[code].cause))

    def _room(self, record: Record) -> None:
        if sum(r.out or r.shelved_until_s > 0.0 for r in self._all()) >= ASIDE:
            if record.over:
                self.records[record.kind.code].pop(record.element)
            raise AlarmError(f"{ASIDE} alarms are set aside already: put some back first")

    def _all(self) -> list[Record]:
        return [r for records in self.records.values() for r in records.values()]

    def listed(self) -> list[Record]:
        """Alarms that stand: active first-out ones, then by priority, cause before consequence."""
        return sorted((r for r in self._all() if r.state in STANDING), key=_order)

    def aside(self) -> list[Record]:
        """Alarms on the shelf, out of service or suppressed."""
        return sorted((r for r in self._all() if r.state not in (*STANDING, State.NORMAL)), key=_order)

    def lines(self) -> list[str]:
        """The active ones as text lines, gravest first."""
        return [f"CRITICAL: {r.text}" if r.kind.code == "shed" else r.text for r in self.listed() if r.active]

    def metrics(self, now_s: float, now_ms: int) -> dict[str, Any]:
        """Flood metrics (EEMUA 191, ISA-18.2 clause 16), JSON-ready."""
        standing = self.listed()
        return self.flood.metrics(now_s) | {
            "standing": len(standing),
            "unacknowledged": sum(r.state in (State.UNACKED, State.RETURNED) for r in standing),
            "stale": sum(now_ms - r.since_ms > 86_400_000 for r in standing),
            "aside": len(self.aside()),
            "suppressed": sum(self.suppressed.values()),
            "by_priority": {p: sum(r.kind.priority == p for r in standing) for p in PRIORITIES},
        }


def first_seen(finding: Finding | None, name: str) -> str:
    """The text of an element's alarm."""
    return "" if finding is None else finding.texts.get(name, finding.text)


def listing(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Records as JSON-ready dicts: what the console, the exports and the feed show."""
    return [
        {
            "id": r.id,
            "code": r.kind.code,
            "priority": r.kind.priority,
            "element": r.element,
            "text": r.text,
            "state": str(r.state),
            "since_ms": r.since_ms,
            "acked_by": r.acked_by,
            "shelved_until_ms": r.shelved_until_ms or None,
            "first_out": r.first_out,
        }
        for r in records
    ]


def _order(record: Record) -> tuple[bool, int, int, int, str]:
    kind = record.kind
    return (
        not (record.first_out and record.active),
        PRIORITIES.index(kind.priority),
        kind.rank,
        record.since_ms,
        record.element,
    )


def _change(record: Record, was: State, at_ms: int, by: str = "", why: str = "") -> Change:
    kind = record.kind
    return Change(
        at_ms, record.id, kind.code, record.element, kind.priority, record.text, str(was), str(record.state),
        record.first_out, by, why,
    )  # fmt: skip
