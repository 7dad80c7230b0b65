"""Device profiles: what a device shows and accepts, as data in profiles/*.yaml, one file per device."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

RegisterType = Literal["u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64"]
WordOrder = Literal["hi-lo", "lo-hi"]
Trust = Literal["hardware", "interop", "repository", "excerpt", "memory", "standard"]
RAW_RANGE: dict[str, tuple[float, float]] = {
    "u16": (0, 2**16 - 1),
    "s16": (-(2**15), 2**15 - 1),
    "u32": (0, 2**32 - 1),
    "s32": (-(2**31), 2**31 - 1),
    "u64": (0, 2**64 - 1),
    "s64": (-(2**63), 2**63 - 1),
    "f32": (-3.4028234663852886e38, 3.4028234663852886e38),
    "f64": (float("-inf"), float("inf")),
}
UNITS: dict[str, str] = {  # unit -> how a point's name ends
    "V": "_v",
    "A": "_a",
    "W": "_w",
    "VA": "_va",
    "var": "_var",
    "Hz": "_hz",
    "C": "_c",
    "K": "_k",
    "L/min": "_lpm",
    "Pa": "_pa",
    "kPa": "_kpa",
    "%": "_pct",
    "rpm": "_rpm",
    "Wh": "_wh",
    "s": "_s",
    "deg": "_deg",
}
WORDS: dict[str, int] = {"u16": 1, "s16": 1, "u32": 2, "s32": 2, "u64": 4, "s64": 4, "f32": 2, "f64": 4}


class ProfileModel(BaseModel):
    """Frozen, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Revert(ProfileModel):
    """What a device falls back to by itself unless it is written again (SunSpec reversion, models 704 and later)."""

    value: str  # point that holds the value it falls back to
    timer: str  # point that holds the time until then [s]
    enable: str = ""  # point that is set to 1 last: the timer runs from then


class WriteLimit(ProfileModel):
    """What may be written to a point, and how: bounds in the point's unit, method, gap, what must read back."""

    min: float
    max: float
    fc: Literal[6, 16] = 16
    min_gap_s: float = 1.0  # flash wear
    outside: Literal["refuse", "clamp"] = "refuse"  # what happens to a value outside min..max
    tolerance: Annotated[float, Field(ge=0)] = 0.0  # that what reads back may differ by; 0: not in one bit
    settle_s: Annotated[float, Field(ge=0, le=10)] = 0.0  # the device may take this long to show what it took
    revert: Revert | None = None  # then nothing is written here without it


class Keys(ProfileModel):
    """Commands by key: key and 65535 - key go to two registers in one request (Deep Sea GenComm, page 16)."""

    addr: Annotated[int, Field(ge=0, le=65534)]
    keys: dict[str, Annotated[int, Field(ge=0, le=65535)]]  # name -> key
    min_gap_s: float = 5.0
    shows: str = ""  # point that shows that a command was taken
    expect: dict[str, float] = {}  # name -> what `shows` then shows
    settle_s: Annotated[float, Field(ge=0, le=60)] = 10.0


class Text(ProfileModel):
    """Registers that hold text, two characters each, padded with zeros or blanks."""

    fc: Literal[3, 4] = 3
    addr: Annotated[int, Field(ge=0, le=65535)]
    words: Annotated[int, Field(ge=1, le=125)]


class Point(ProfileModel):
    """One value of a device. Engineering value = raw * scale + shift (float64, always)."""

    name: str
    unit: str  # "" is dimensionless
    addr: Annotated[int, Field(ge=0, le=65535)] = 0  # 0-based wire address (Modbus)
    fc: Literal[3, 4] = 3
    type: RegisterType = "u16"
    words: WordOrder = "hi-lo"
    scale: float = 1.0
    shift: float = 0.0
    scale_point: str = ""  # SunSpec: name of the point that holds the power of ten
    min: float = float("-inf")  # engineering range; outside is BAD
    max: float = float("inf")
    missing: tuple[int, ...] = ()  # raw words that mean "not available", as unsigned of the type's width
    bits: dict[int, str] = {}  # names of flag bits
    poll: bool = False  # read every period; the others only by probe
    write: WriteLimit | None = None
    topic: str = ""  # DSX pointType (protocol dsx)
    source: str = ""  # overrides the profile's source
    trust: Trust | None = None


class Block(ProfileModel):
    """A range of registers that one request may read; a request that leaves it gets exception 2."""

    fc: Literal[3, 4] = 3
    first: int
    last: int


class Profile(ProfileModel):
    """A device family. `blocks` bound what one request may merge; holes inside a block read as zeros
    only where `holes_ok`."""

    name: str
    title: str
    protocol: Literal["modbus", "dsx", "agent"]
    source: str
    trust: Trust
    object_type: str = ""  # DSX objectType
    blocks: tuple[Block, ...] = ()
    holes_ok: bool = False
    max_registers: Annotated[int, Field(ge=1, le=125)] = 125
    identity: dict[Literal["vendor", "model", "firmware", "serial"], Text] = {}  # where not told by function 43/14
    keys: Keys | None = None
    constants: dict[int, int | str] = {}  # holding registers that never change: model ids, texts (2 characters each)
    points: tuple[Point, ...]

    def polled(self) -> tuple[Point, ...]:
        """The points read every period, in file order: the columns of the profile's slab."""
        return tuple(p for p in self.points if p.poll)

    def point(self, name: str) -> Point:
        """The point of that name; KeyError when there is none."""
        for p in self.points:
            if p.name == name:
                return p
        raise KeyError(f"{self.name} has no point {name}")


class ProfileError(ValueError):
    """Profiles that cannot be used; the message lists every problem of every file."""


def load_profiles(directory: Path | None = None) -> dict[str, Profile]:
    """Every profile of a folder (the packaged one unless told) by name; ProfileError with all problems."""
    profiles: dict[str, Profile] = {}
    problems: list[str] = []
    for path in sorted((directory or Path(__file__).parent / "profiles").glob("*.yaml")):
        try:
            profile = Profile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except yaml.YAMLError as error:
            problems.append(f"{path.name}: not YAML: {error}")
            continue
        except ValidationError as error:
            problems += [f"{path.name}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            continue
        if profile.name != path.stem:
            problems.append(f"{path.name}: the profile is named {profile.name}; name it {path.stem}")
        problems += [f"{path.name}: {text}" for text in lint_profile(profile)]
        profiles[profile.name] = profile
    if problems:
        raise ProfileError("\n".join(problems))
    return profiles


def lint_profile(profile: Profile) -> list[str]:
    """Every problem of a profile in words, empty when it is good."""
    names = Counter(p.name for p in profile.points)
    problems = [f"point {name}: there are {count} of that name" for name, count in names.items() if count > 1]
    for point in profile.points:
        problems += [f"point {point.name}: {text}" for text in _lint_point(profile, point)]
    if profile.protocol == "modbus":
        problems += _lint_registers(profile)
        problems += _lint_commands(profile)
    return problems


def _lint_commands(profile: Profile) -> Iterator[str]:
    points = {p.name: p for p in profile.points}
    for p in profile.points:
        revert = p.write.revert if p.write else None
        for name in (revert.value, revert.timer, *([revert.enable] if revert.enable else [])) if revert else ():
            if name not in points or points[name].write is None:
                yield f"point {p.name}: its revert names {name}, which is no writable point"
        if revert and revert.timer in points and points[revert.timer].unit != "s":
            yield f"point {p.name}: its revert timer {revert.timer} is not in s"
    taken = {p.addr + k for p in profile.points if p.fc == 3 for k in range(WORDS[p.type])}
    if profile.keys:
        if taken & {profile.keys.addr, profile.keys.addr + 1}:
            yield f"the keys' registers {profile.keys.addr}..{profile.keys.addr + 1} are a point's, too"
        if profile.keys.expect and profile.keys.shows not in points:
            yield f"the keys show on {profile.keys.shows or 'no point'}: name one of the profile's points"
        yield from (
            f"key {name} is expected but not declared" for name in profile.keys.expect.keys() - profile.keys.keys.keys()
        )
    for what, text in profile.identity.items():
        last = text.addr + text.words - 1
        if not any(b.fc == text.fc and b.first <= text.addr and last <= b.last for b in profile.blocks):
            yield f"identity {what}: registers {text.addr}..{last} lie in no block"


def _lint_point(profile: Profile, p: Point) -> Iterator[str]:
    ending = UNITS.get(p.unit)
    if p.unit and ending is None:
        yield f"unit {p.unit!r} is not one of {', '.join(UNITS)}"
    elif ending and not (p.name + "_").endswith(ending + "_"):
        yield f"a name in {p.unit} ends in {ending}"
    elif not p.unit and any(p.name.endswith(e) for e in UNITS.values()):
        yield "the unit is missing"
    if p.min >= p.max:
        yield f"the range {p.min}..{p.max} is empty"
    if p.write and not p.min <= p.write.min < p.write.max <= p.max:
        yield f"the write limits {p.write.min}..{p.write.max} are not inside the range {p.min}..{p.max}"
    if profile.protocol == "modbus":
        yield from _lint_encoding(profile, p)
    elif p.poll and not p.topic:
        yield "a polled point needs its topic"


def _lint_encoding(profile: Profile, p: Point) -> Iterator[str]:
    width = 16 * WORDS[p.type]
    if p.scale == 0:
        yield "a scale of zero loses the value"
    if any(not 0 <= bit < width for bit in p.bits):
        yield f"a flag bit lies outside its {width} bits"
    if any(not 0 <= raw < 2**width for raw in p.missing):
        yield f"a missing-value word does not fit {width} bits"
    if p.write and p.write.fc == 6 and width != 16:
        yield "function 6 writes one register only"
    if p.write and not p.scale_point and p.scale:
        low, high = RAW_RANGE[p.type]
        raws = [(limit - p.shift) / p.scale for limit in (p.write.min, p.write.max)]
        if not all(low <= raw <= high for raw in raws):
            yield f"the write limits do not fit {p.type}"
    if p.scale_point:
        factor = next((q for q in profile.points if q.name == p.scale_point), None)
        if factor is None or factor.type != "s16" or factor.scale_point:
            yield f"its scale point {p.scale_point} must be a plain s16 point"


def _lint_registers(profile: Profile) -> Iterator[str]:
    if not profile.blocks:
        yield "a Modbus profile needs its blocks"
    for i, b in enumerate(profile.blocks):
        if not 0 <= b.first <= b.last <= 65535:
            yield f"block {b.first}..{b.last} is empty or out of reach"
        yield from (
            f"blocks {b.first}..{b.last} and {o.first}..{o.last} overlap"
            for o in profile.blocks[:i]
            if o.fc == b.fc and o.first <= b.last and b.first <= o.last
        )
    owner: dict[tuple[int, int], str] = {}
    for p in profile.points:
        last = p.addr + WORDS[p.type] - 1
        if not any(b.fc == p.fc and b.first <= p.addr and last <= b.last for b in profile.blocks):
            yield f"point {p.name}: registers {p.addr}..{last} lie in no block"
        if WORDS[p.type] > profile.max_registers:
            yield f"point {p.name}: wider than max_registers {profile.max_registers}"
        for addr in range(p.addr, last + 1):
            other = owner.setdefault((p.fc, addr), p.name)
            if other != p.name:
                yield f"points {other} and {p.name} overlap at {addr}"
                break
    for addr in profile.constants:
        if not any(b.fc == 3 and b.first <= addr <= b.last for b in profile.blocks):
            yield f"constant at {addr} lies in no block"
