"""Device profiles: what a device shows and accepts, as data in profiles/*.yaml, one file per device."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

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
