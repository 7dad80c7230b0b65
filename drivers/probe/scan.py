"""Who answers at an address: unit ids, identities, SunSpec models, profiles that fit. One at a time, reads only.

Sources: unit ids and exceptions 10 and 11 of gateways, MODBUS Application Protocol V1.1b3; SunSpec marker and base
addresses, SunSpec Device Information Model Specification V1.1.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drivers.clock import Clock
from drivers.modbus import frame
from drivers.modbus.ask import Answer, Line, NoAnswerError, read_pdu
from drivers.modbus.identity import Identity
from drivers.probe.walk import ask_identity, check_point
from drivers.profile import Profile

RESERVED_UNIT = 251  # 248 to 255 belong to nobody: who answers here answers to any unit id
ABSENT = (frame.PATH_UNAVAILABLE, frame.TARGET_FAILED)
SAMPLE = 8  # points that a profile is tried with
SURE = 4  # of them that must show something other than zero: fewer are shown by many a device by chance


@dataclass(frozen=True)
class Found:
    """A unit that answers. `fits` are profiles whose first points all read plausibly, enough of them not as zero, or
    whose maker it names; `perhaps` those with too little to tell.
    """

    unit: int
    identity: Identity
    sunspec: tuple[int, ...]  # ids of its models
    fits: tuple[str, ...]
    perhaps: tuple[str, ...] = ()
    any_unit: bool = False  # the address answers to every unit id: one device

    def __str__(self) -> str:
        parts = [f"unit {self.unit}: {self.identity}"]
        if self.sunspec:
            parts.append(f"SunSpec models {', '.join(map(str, self.sunspec))}")
        parts.append(f"fits {', '.join(self.fits)}" if self.fits else "no profile fits")
        if self.perhaps:
            parts.append(f"too little to tell: {', '.join(self.perhaps)}")
        if self.any_unit:
            parts.append("answers to every unit id: one device")
        return "; ".join(parts)


def parse_address(text: str) -> tuple[str, int]:
    """HOST or HOST:PORT, [HOST]:PORT for IPv6; ValueError in words."""
    found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::(\d{1,5}))?|([^\[\]]*::?[^\[\]]*)", text, re.ASCII)
    host, port = (found[1] or found[2] or found[4], int(found[3] or 502)) if found else ("", 0)
    if not host or not 0 < port < 65536 or (found and found[4] and text.count(":") < 2):
        raise ValueError(f"'{text}' is no address: give HOST or HOST:PORT")
    return host, port


def parse_units(text: str) -> range:
    """FIRST-LAST or one number, within 0..255; ValueError in words."""
    found = re.fullmatch(r"(\d{1,3})(?:-(\d{1,3}))?", text, re.ASCII)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if not first <= last <= 255:
        raise ValueError(f"'{text}' are no unit ids: give FIRST-LAST, from 0 to 255")
    return range(first, last + 1)


async def scan(
    host: str,
    port: int,
    units: Sequence[int],
    profiles: Mapping[str, Profile],
    clock: Clock,
    timeout_s: float = 0.5,
    pace_s: float = 0.02,
) -> list[Found]:
    """Every unit that answers, in order; NoAnswerError when there is no connection."""
    modbus = [p for p in profiles.values() if p.protocol == "modbus"]
    found: list[Found] = []
    async with _Paced(host, port, timeout_s, clock, pace_s) as line:
        any_unit = await _is_there(line, RESERVED_UNIT)
        for unit in units[:1] if any_unit else units:
            if await _is_there(line, unit):
                who = await ask_identity(line, unit)
                models = await _sunspec(line, unit)
                shown = [(p, await _nonzero(line, unit, p)) for p in modbus]
                fits = tuple(p.name for p, n in shown if n >= SURE or (n and _names(who, p)))
                perhaps = tuple(p.name for p, n in shown if n and p.name not in fits)
                found.append(Found(unit, who, models, fits, perhaps, any_unit))
    return found


class _Paced(Line):
    """A line that rests between questions and comes back when it was hung up."""

    def __init__(self, host: str, port: int, timeout_s: float, clock: Clock, pace_s: float) -> None:
        super().__init__(host, port, timeout_s)
        self._clock, self._pace_s = clock, pace_s

    async def ask(self, unit: int, pdu: bytes) -> Answer:
        await self._clock.sleep_until(self._clock.now_s() + self._pace_s)
        return await super().ask(unit, pdu)


async def _is_there(line: Line, unit: int) -> bool:
    """Any answer to a plain read counts, but a gateway's that the unit does not answer."""
    try:
        return (await line.ask(unit, read_pdu(frame.READ_HOLDING, 0, 1))).refused not in ABSENT
    except NoAnswerError:
        return False


async def _sunspec(line: Line, unit: int) -> tuple[int, ...]:
    """Ids of the models in the chain, () where there is none."""
    try:
        return tuple(await line.models(unit))
    except NoAnswerError:
        return ()


async def _nonzero(line: Line, unit: int, profile: Profile) -> int:
    """How many of a profile's first points show something other than zero; 0 where any is not there or out of range."""
    shown = 0
    for point in profile.polled()[:SAMPLE]:
        seen = await check_point(line, unit, profile, point)
        if seen.verdict != "ok":
            return 0
        shown += any(seen.words)
    return shown


def _names(who: Identity, profile: Profile) -> bool:
    """Whether a device names the maker that the profile is titled with."""
    maker = profile.title.split()[0].casefold()
    return maker in who.vendor.casefold().split() + who.product.casefold().split()
