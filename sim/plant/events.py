"""What may happen to a plant: typed actions of a scenario's timeline. Files are read in sim/scenarios.py.

Elements are chosen by kind and number, so that one scenario runs on every site.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from drivers.site.model import NodeKind

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Nth = Annotated[int, Field(ge=0)]


class EventModel(BaseModel):
    """Frozen, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Training(EventModel):
    """Move the plateau or the swing of training jobs: `all`, `largest`, or one by its id."""

    do: Literal["training"]
    at_s: Seconds = 0.0
    jobs: str = "all"
    to: Annotated[float, Field(ge=0, le=1)] | None = None  # share of nameplate
    over_s: Seconds = 0.0
    depth: Annotated[float, Field(ge=0, le=0.9)] | None = None  # of the swing, share of the plateau, downwards
    period_s: Annotated[float, Field(ge=1, le=8)] | None = None
    checkpoint_every_s: Seconds | None = None  # 0 is never


class Inference(EventModel):
    """Move the demand of inference: `all` or one job by its id. Above 1 it saturates at nameplate."""

    do: Literal["inference"]
    at_s: Seconds = 0.0
    jobs: str = "all"
    to: Annotated[float, Field(ge=0, le=2)]
    over_s: Seconds = 0.0


class HeatWave(EventModel):
    """Raise dry- and wet-bulb temperature over the daily shape."""

    do: Literal["weather"]
    at_s: Seconds = 0.0
    rise_k: Annotated[float, Field(ge=-30, le=30)]
    over_s: Seconds = 0.0


class Outage(EventModel):
    """Take an electrical element out: by id, or the nth of a kind, `feeding` narrows to those above such a node."""

    do: Literal["outage"]
    at_s: Seconds
    for_s: Seconds = 0.0  # 0 is for good
    id: str = ""
    kind: NodeKind | None = None
    feeding: NodeKind | None = None
    nth: Nth = 0


class CoolingTrip(EventModel):
    """Stop a unit or CDU: by id, or the nth of a kind that is not on standby; `rejection` is what is no pump or CDU."""

    do: Literal["cooling_trip"]
    at_s: Seconds
    for_s: Seconds = 0.0
    id: str = ""
    kind: Literal["pump", "chiller", "dry_cooler", "tower", "rejection", "cdu"] = "pump"
    nth: Nth = 0


class StorageTrip(EventModel):
    """Take a storage unit off its bus: by id, or the nth."""

    do: Literal["storage_trip"]
    at_s: Seconds
    for_s: Seconds = 0.0
    id: str = ""
    nth: Nth = 0


class DeviceFault(EventModel):
    """Devices of one kind fall silent, freeze at their last value, or show their sentinel."""

    do: Literal["device_fault"]
    at_s: Seconds
    for_s: Seconds = 0.0
    measures: Literal["pdu", "meter", "cdu", "storage"]
    how: Literal["silent", "frozen", "sentinel"]
    count: Count = 1  # evenly over the site; at most all of them


class GatewaySilent(EventModel):
    """Gateways that accept a connection and never answer."""

    do: Literal["gateway_silent"]
    at_s: Seconds
    for_s: Seconds = 0.0
    nth: Nth = 0
    count: Count = 1


class IgnoreCaps(EventModel):
    """Racks that confirm their caps and do not obey them."""

    do: Literal["ignore_caps"]
    at_s: Seconds
    for_s: Seconds = 0.0
    count: Count = 1  # evenly over the site
    share: Annotated[float, Field(gt=0, le=1)] | None = None  # of all racks, drawn by the plant's seed, instead


ACTIONS: dict[str, type[EventModel]] = {
    "training": Training,
    "inference": Inference,
    "weather": HeatWave,
    "outage": Outage,
    "cooling_trip": CoolingTrip,
    "storage_trip": StorageTrip,
    "device_fault": DeviceFault,
    "gateway_silent": GatewaySilent,
    "ignore_caps": IgnoreCaps,
}
Event = Annotated[
    Training | Inference | HeatWave | Outage | CoolingTrip | StorageTrip | DeviceFault | GatewaySilent | IgnoreCaps,
    Field(discriminator="do"),
]


class Weather(EventModel):
    """Air at the start and its daily swing (peak at 15 h)."""

    dry_bulb_c: float = 30.0
    depression_k: Annotated[float, Field(ge=0)] = 9.0  # dry-bulb minus wet-bulb
    swing_k: Annotated[float, Field(ge=0)] = 5.0


class Scenario(EventModel):
    """A named timeline. Events at 0 s are the starting state: their ramps are already over."""

    name: str
    title: str
    start_hour: Annotated[float, Field(ge=0, lt=24)] = 14.0
    weather: Weather = Weather()
    inference_daily: Annotated[float, Field(ge=0, lt=1)] = 0.25  # amplitude of the daily shape, peak at 20 h
    ups_battery_s: Annotated[float, Field(ge=0)] | None = None  # ride-through at rating, else the site's
    events: tuple[Event, ...] = ()
