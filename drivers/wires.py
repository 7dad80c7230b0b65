"""All that the controller knows of I/O: a snapshot of every point, and commands that leave without waiting."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from drivers.lease import Lease
from drivers.points import Floats, Ints, Qualities, Snapshot


@dataclass(frozen=True)
class CapCommand:
    """Send one group's cap leases. Later kinds (storage, set-point) stand beside it in `Command`."""

    lease: Lease


Command = CapCommand


@dataclass(frozen=True)
class LinkHealth:
    """State of one wire, for the view and for alarms."""

    name: str
    up: bool
    devices: int
    devices_silent: int
    points_per_s: float
    detail: str = ""
    note: str = ""  # something to look into that is no failure


class Wires(Protocol):
    """The building, or the plant in lock-step: same calls."""

    def snapshot(self, now_s: float) -> Snapshot:
        """Every point at `now_s` [s, monotonic]."""
        ...

    def glance(self, slots: Ints, now_s: float) -> tuple[Floats, Qualities]:
        """Values and qualities of a few points at `now_s` [s, monotonic]."""
        ...

    def send(self, commands: Sequence[Command]) -> int:
        """Queue commands, never wait; the number taken (the rest were dropped, the next cycle recomputes)."""
        ...

    def health(self) -> Sequence[LinkHealth]:
        """One entry per wire."""
        ...
