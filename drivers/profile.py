"""Device profiles: what a device shows and accepts, as data in profiles/*.yaml, one file per device."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

RegisterType = Literal["u16", "s16", "u32", "s32", "u64", "s64", "f32", "f64"]
WordOrder = Literal["hi-lo", "lo-hi"]
Trust = Literal["hardware", "interop", "repository", "excerpt", "memory", "standard"]
WORDS: dict[str, int] = {"u16": 1, "s16": 1, "u32": 2, "s32": 2, "u64": 4, "s64": 4, "f32": 2, "f64": 4}


class ProfileModel(BaseModel):
    """Frozen, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WriteLimit(ProfileModel):
    """What may be written to a point: bounds in the point's unit, method and shortest gap."""

    min: float
    max: float
    fc: Literal[6, 16] = 16
    min_gap_s: float = 1.0  # flash wear


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
    max_registers: int = 125
    points: tuple[Point, ...]

    def polled(self) -> tuple[Point, ...]:
        """The points read every period, in file order: the columns of the profile's slab."""
        return tuple(p for p in self.points if p.poll)
