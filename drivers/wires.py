"""All that the controller knows of I/O: a snapshot of every point, and commands that leave without waiting."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from drivers.lease import Lease
from drivers.points import Floats, Ints, Qualities, Snapshot


@dataclass(frozen=True)
class CapCommand:
    """Send one group's cap leases. Later kinds (storage) stand beside it in `Command`."""

    lease: Lease


@dataclass(frozen=True)
class SetpointCommand:
    """Write one point of a device [the point's unit], once; who asked, why, and the act by which it was asked.

    `revert` is what the device falls back to by itself, and after how long [s]; needed where its profile has it.
    """

    device: str
    point: str
    value: float
    revert: tuple[float, float] | None = None
    by: str = ""
    why: str = ""
    act: str = ""


Command = CapCommand | SetpointCommand


class Tap(Protocol):
    """Hears what passes on the wires, as it passes; called in the event loop, so it must be quick and never wait."""

    def exchange(self, device: str, request: bytes, reply: bytes, quality: str) -> None:
        """A Modbus request (unit and PDU) has ended: with a reply, or with none (empty).

        `quality` is good, suspect (busy), bad (another exception, or a reply of the wrong size) or silent.
        """
        ...

    def message(self, topic: str, payload: bytes, retained: bool, *, sent: bool = False) -> None:
        """An MQTT message was heard, or is being sent."""
        ...

    def alarms(self) -> list[str]:
        """What a person must know of it."""
        ...


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
