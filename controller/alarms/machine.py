"""One alarm's life by ISA-18.2: delays, deadband, acknowledgement, latch, shelving, out of service. Pure; no clock.

A record lives from the first second of its condition until it is normal again and nobody has set it aside.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from controller.alarms.catalog import Kind


class State(StrEnum):
    """What an operator sees of an alarm (ISA-18.2-2016, figure 3)."""

    NORMAL = "normal"
    UNACKED = "unacknowledged"  # active, nobody has seen it
    ACKED = "acknowledged"  # active, seen
    RETURNED = "returned"  # the condition is gone, nobody has seen it; latched: or not reset yet
    SHELVED = "shelved"
    OUT = "out_of_service"
    SUPPRESSED = "suppressed"  # by design: a cause that stands explains it


STANDING = (State.UNACKED, State.ACKED, State.RETURNED)


@dataclass
class Record:
    """One alarm: a code at an element. Times of the monotonic clock, unless they end in _ms (wall)."""

    kind: Kind
    element: str
    text: str = ""
    process: State = State.NORMAL  # NORMAL, UNACKED, ACKED or RETURNED: what it is beneath shelf and suppression
    since_ms: int = 0  # when it was raised last
    acked_by: str = ""
    shelved_until_s: float = 0.0
    shelved_until_ms: int = 0
    out: bool = False
    suppressed: bool = False
    first_out: bool = False
    on_s: float | None = None  # the condition stands since
    off_s: float | None = None  # .. or is gone since
    members: int = 0  # of a roll-up: how many elements
    seen: int = 0  # .. and how many when it was acknowledged
    aside_by: str = ""
    raised: int = field(default=0, compare=False)  # how many times, since the start

    @property
    def id(self) -> str:
        """Its name in acts and lists."""
        return f"{self.kind.code}/{self.element}"

    @property
    def active(self) -> bool:
        """The condition has stood for the on-delay, and not been gone for the off-delay."""
        return self.process in (State.UNACKED, State.ACKED)

    @property
    def state(self) -> State:
        """What is shown."""
        if self.out:
            return State.OUT
        if self.shelved_until_s > 0.0:
            return State.SHELVED
        return State.SUPPRESSED if self.suppressed and self.process is not State.NORMAL else self.process

    @property
    def over(self) -> bool:
        """Nothing keeps this record."""
        return self.state is State.NORMAL and self.on_s is None


def present(record: Record, excess: float | None) -> bool:
    """Whether the condition stands: `excess` is the share by which the limit is exceeded, None: nothing measured.

    An active alarm stands until the value is the deadband below the limit.
    """
    if excess is None:
        return False
    return excess > (-record.kind.deadband if record.active else 0.0)


def advance(record: Record, now_s: float, now_ms: int, stands: bool, blind: bool = False) -> None:
    """Let time pass to `now_s`. `blind`: what is not seen is not gone."""
    if record.shelved_until_s and now_s >= record.shelved_until_s:
        unshelve(record)
    if stands:
        record.off_s = None
        record.on_s = now_s if record.on_s is None else record.on_s
        if not record.active and now_s - record.on_s >= record.kind.on_delay_s:
            record.process, record.acked_by, record.since_ms = State.UNACKED, "", now_ms
            record.raised += 1
    else:
        record.on_s = None
        if record.active and not blind:
            record.off_s = now_s if record.off_s is None else record.off_s
            if now_s - record.off_s >= record.kind.off_delay_s:
                seen = record.process is State.ACKED and not record.kind.latched
                record.process, record.off_s = (State.NORMAL if seen else State.RETURNED), None
                record.first_out = record.first_out and not seen


def acknowledge(record: Record, by: str) -> bool:
    """Somebody has seen it; an alarm whose condition is gone is normal then. Whether the state changed."""
    if record.state is State.UNACKED:
        record.process, record.acked_by, record.seen = State.ACKED, by, record.members
        return True
    if record.state is State.RETURNED:
        record.process, record.acked_by, record.first_out = State.NORMAL, by, False
        return True
    return False


def shelve(record: Record, by: str, until_s: float, until_ms: int) -> None:
    """Set it aside until then; an earlier or later end replaces the one given before."""
    record.shelved_until_s, record.shelved_until_ms, record.aside_by = until_s, until_ms, by


def unshelve(record: Record) -> None:
    """Back from the shelf: what is active needs to be seen anew, what has returned is over."""
    if not record.shelved_until_s:
        return
    record.shelved_until_s, record.shelved_until_ms = 0.0, 0
    _back(record)


def out_of_service(record: Record, by: str) -> None:
    """Set it aside until somebody puts it back."""
    record.out, record.aside_by = True, by


def in_service(record: Record) -> None:
    """Back in service, as from the shelf."""
    if not record.out:
        return
    record.out = False
    _back(record)


def _back(record: Record) -> None:
    record.aside_by = ""
    if record.active:
        record.process, record.acked_by = State.UNACKED, ""
    elif record.process is State.RETURNED and not record.kind.latched:
        record.process = State.NORMAL
