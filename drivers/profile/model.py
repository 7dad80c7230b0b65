"""Device profiles: what a device shows and accepts, as data in profiles/*.yaml, one file per device."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

RegisterType = Literal["u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64", "f32pf", "bit"]
WordOrder = Literal["hi-lo", "lo-hi", "hi-lo-swapped", "lo-hi-swapped"]  # swapped: the bytes of each word, too
Function = Literal[1, 2, 3, 4]  # coils, discrete inputs, holding registers, input registers
BITS = (1, 2)  # functions that read bits
Role = Literal[
    "", "valve", "genset", "transfer_switch", "power_shelf", "battery_shelf", "ups", "drive", "cooler", "chiller"
]
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
    "f32pf": (-1, 1),
    "bit": (0, 1),
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
    "%/s": "_pct_per_s",
    "rpm": "_rpm",
    "Wh": "_wh",
    "s": "_s",
    "deg": "_deg",
}
WORDS: dict[str, int] = {  # addresses that a value takes
    "u16": 1,
    "s16": 1,
    "u32": 2,
    "s32": 2,
    "u64": 4,
    "s64": 4,
    "f32": 2,
    "f64": 4,
    "f32pf": 2,  # power factor in four quadrants (Schneider): 1..2 is 2 - x leading, -2..-1 is -2 - x leading
    "bit": 1,
}
DOC_PATTERN = r"^[0134]x\d{1,5}$"
DOC_TABLES = {"0": 1, "1": 2, "3": 4, "4": 3}  # first digit of a maker's number -> function


def _fixed_point(scale: object) -> object:
    """ "Q10" is 2**-10."""
    found = re.fullmatch(r"Q(\d{1,2})", scale) if isinstance(scale, str) else None
    return 2.0 ** -int(found[1]) if found else scale


Scale = Annotated[
    float, BeforeValidator(_fixed_point, json_schema_input_type=float | Annotated[str, Field(pattern=r"^Q\d{1,2}$")])
]


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
    fc: Literal[5, 6, 16] = 16  # 5: a coil
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
    model: Annotated[int, Field(ge=0, le=65534)] = 0  # SunSpec model; `addr` then counts from its id word
    addr: Annotated[int, Field(ge=0, le=65535)]
    words: Annotated[int, Field(ge=1, le=125)]


class Point(ProfileModel):
    """One value of a device. Engineering value = raw * scale + shift (float64, always)."""

    name: str
    unit: str  # "" is dimensionless
    addr: Annotated[int, Field(ge=0, le=65535)] = 0  # 0-based wire address (Modbus)
    doc: Annotated[int, Field(ge=1, le=65536)] | Annotated[str, Field(pattern=DOC_PATTERN)] | None = None
    fc: Function = 3
    model: Annotated[int, Field(ge=0, le=65534)] = 0  # SunSpec model; `addr` then counts from its id word
    type: RegisterType = "u16"
    words: WordOrder = "hi-lo"
    scale: Scale = 1.0  # or Q10: fixed point with 10 binary places
    shift: float = 0.0
    scale_point: str = ""  # SunSpec: name of the point that holds the power of ten
    min: float = float("-inf")  # engineering range; outside is BAD
    max: float = float("inf")
    missing: tuple[int, ...] = ()  # raw words that mean "not available", as unsigned of the type's width
    bits: dict[int, str] = {}  # names of flag bits
    states: dict[int, str] = {}  # names of the values of an enumeration
    poll: bool = False  # read every period; the others only by probe
    write: WriteLimit | None = None
    topic: str = ""  # DSX pointType (protocol dsx), name of a Sparkplug metric (protocol sparkplug)
    source: str = ""  # overrides the profile's source
    trust: Trust | None = None

    @model_validator(mode="before")
    @classmethod
    def _address_from_doc(cls, given: Any) -> Any:
        """`doc` is the maker's number, counted from 1: 3060, or with its table 3x0900; the address follows from it."""
        if not isinstance(given, dict) or given.get("doc") is None:
            return given
        table, _, number = str(given["doc"]).rpartition("x")
        if not number.isdecimal() or (table and table not in DOC_TABLES):
            return given  # the field's own rule says what is wrong
        told = {"addr": int(number) - 1} | ({"fc": DOC_TABLES[table]} if table else {})
        for key, value in told.items():
            if given.get(key, value) != value:
                raise ValueError(f"{key} {given[key]} is not that of doc {given['doc']}: {value}")
        return given | told

    @property
    def places(self) -> range:
        """Its addresses, counted from the model's id word where it has one."""
        return range(self.addr, self.addr + WORDS[self.type])


class Block(ProfileModel):
    """A range that one request may read; a request that leaves it gets exception 2. Bits are always read whole."""

    fc: Function = 3
    model: Annotated[int, Field(ge=0, le=65534)] = 0  # a SunSpec model from its id word on: `first` is 0
    first: int
    last: int
    constants: dict[int, int | str] = {}  # registers that never change: ids, powers of ten, texts (2 characters each)

    def holds(self, fc: int, model: int, places: range) -> bool:
        """Whether all these addresses lie in it."""
        return fc == self.fc and model == self.model and self.first <= places[0] and places[-1] <= self.last


class Profile(ProfileModel):
    """A device family. `blocks` bound what one request may merge; holes inside a block read as zeros
    only where `holes_ok`."""

    name: str
    title: str
    protocol: Literal["modbus", "dsx", "sparkplug", "agent"]
    source: str
    trust: Trust
    role: Role = ""  # of a device beside the instruments that control goes by: where it may stand is in kinds.py
    object_type: str = ""  # DSX objectType
    blocks: tuple[Block, ...] = ()
    holes_ok: bool = False
    max_registers: Annotated[int, Field(ge=1, le=125)] = 125
    identity: dict[Literal["vendor", "model", "firmware", "serial"], Text] = {}  # where not told by function 43/14
    keys: Keys | None = None
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

    def block(self, fc: int, model: int, places: range) -> Block:
        """The block that holds these addresses; KeyError when there is none."""
        for block in self.blocks:
            if block.holds(fc, model, places):
                return block
        raise KeyError(f"{self.name}: {places[0]}..{places[-1]} lie in no block")

    @property
    def models(self) -> tuple[int, ...]:
        """SunSpec models it needs; their addresses are found on each device."""
        return tuple(b.model for b in self.blocks if b.model)
