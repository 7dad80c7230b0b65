"""What may happen to a plant: typed actions of a scenario's timeline. Files are read in sim/scenarios.py.

Elements are chosen by kind and number, so that one scenario runs on every site.
"""

from typing import Annotated, Literal

from pydantic import Field

from drivers.site.model import NodeKind
from sim.plant.event_model import RESTART_S, Count, EventModel, Nth, Seconds
from sim.plant.lab_events import LAB_ACTIONS, LabEvent
from sim.plant.outcome import Outcome
from sim.plant.weather import Climate


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


class Crash(EventModel):
    """Training jobs crash: they lose what they did since their last checkpoint and stand while they start again."""

    do: Literal["crash"]
    at_s: Seconds
    jobs: str = "largest"
    restart_s: Annotated[float, Field(ge=0, le=3600)] = RESTART_S


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


class SlowActuators(EventModel):
    """Racks whose caps settle with `settle_s` instead of their own time constant, as through a busy BMC."""

    do: Literal["slow_actuators"]
    at_s: Seconds
    for_s: Seconds = 0.0
    settle_s: Annotated[float, Field(gt=0, le=600)] = 13.0  # 95 % after 40 s (POLCA, arXiv 2308.12908)
    count: Count = 1
    share: Annotated[float, Field(gt=0, le=1)] | None = None


class Leak(EventModel):
    """Coolant of a CDU's circuit leaks: its sensors say so, and local protection closes it `isolate_s` later."""

    do: Literal["leak"]
    at_s: Seconds
    for_s: Seconds = 0.0  # until it is mended, at least isolate_s; 0 is for good
    isolate_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    id: str = ""
    nth: Nth = 0


class SensorError(EventModel):
    """Devices of one kind drift, follow late or show coarse steps: wrong, and nothing says so."""

    do: Literal["sensor_error"]
    at_s: Seconds
    for_s: Seconds = 0.0
    measures: Literal["pdu", "meter", "cdu", "storage"]
    drift_per_h: Annotated[float, Field(ge=-1, le=1)] = 0.0  # of powers, currents and flows
    drift_k_per_h: Annotated[float, Field(ge=-20, le=20)] = 0.0
    lag_s: Annotated[float, Field(ge=0, le=600)] = 0.0
    step: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0  # in the point's own unit
    count: Count = 1  # evenly over the site


class GeneratorFails(EventModel):
    """A generator does not start, however often it tries."""

    do: Literal["generator_fails"]
    at_s: Seconds
    for_s: Seconds = 0.0
    nth: Nth = 0


class Sag(EventModel):
    """The utility's voltage falls to `to` of nominal at feeds: one by its id, the nth, or all."""

    do: Literal["sag"]
    at_s: Seconds
    for_s: Annotated[float, Field(gt=0, le=60)] = 0.5
    to: Annotated[float, Field(ge=0.05, lt=1)] = 0.6
    id: str = ""
    nth: Nth | None = None  # neither: all


ACTIONS: dict[str, type[EventModel]] = {
    "training": Training,
    "inference": Inference,
    "crash": Crash,
    "weather": HeatWave,
    "outage": Outage,
    "cooling_trip": CoolingTrip,
    "storage_trip": StorageTrip,
    "device_fault": DeviceFault,
    "gateway_silent": GatewaySilent,
    "ignore_caps": IgnoreCaps,
    "slow_actuators": SlowActuators,
    "generator_fails": GeneratorFails,
    "sag": Sag,
    "leak": Leak,
    "sensor_error": SensorError,
    **LAB_ACTIONS,
}
PlantEvent = (
    Training
    | Inference
    | Crash
    | HeatWave
    | Outage
    | CoolingTrip
    | StorageTrip
    | DeviceFault
    | GatewaySilent
    | IgnoreCaps
    | SlowActuators
    | GeneratorFails
    | Sag
    | Leak
    | SensorError
)
Event = Annotated[PlantEvent | LabEvent, Field(discriminator="do")]


class Weather(EventModel):
    """Air at the start and its daily swing (peak at 15 h); or a year's, by the hour, of a climate or from a file."""

    dry_bulb_c: float = 30.0
    depression_k: Annotated[float, Field(ge=0)] = 9.0  # dry-bulb minus wet-bulb
    swing_k: Annotated[float, Field(ge=0)] = 5.0
    climate: Climate | None = None  # drawn by the plant's seed
    file: str = ""  # CSV of a year's hours: dry_bulb_c, wet_bulb_c
    start_day: Annotated[float, Field(ge=0, lt=366)] = 196.0  # of the year, where it is a year's


class Requests(EventModel):
    """Inference is made of requests, like those of Azure's coding service or of a trace in a file (CSV, as Azure's).

    The share of nameplate that an inference event asks for is then that of what its racks can serve, in the mean.
    """

    source: Literal["azure_code"] = "azure_code"
    file: str = ""
    late_s: Annotated[float, Field(gt=0, le=600)] = 2.0  # MLPerf's limit to the first token of a 70 B model
    patience_s: Annotated[float, Field(gt=0, le=600)] = 30.0  # then whoever asked gives up


class Scenario(EventModel):
    """A named timeline. Events at 0 s are the starting state: their ramps are already over."""

    name: str
    title: str
    start_hour: Annotated[float, Field(ge=0, lt=24)] = 14.0
    weather: Weather = Weather()
    requests: Requests | None = None  # none: inference is a demand, not a queue
    inference_daily: Annotated[float, Field(ge=0, lt=1)] = 0.25  # amplitude of the daily shape, peak at 20 h
    ups_battery_s: Annotated[float, Field(ge=0)] | None = None  # ride-through at rating, else the site's
    lasts_s: Annotated[float, Field(ge=1)] = 600.0  # a shorter run need not show the outcome
    events: tuple[Event, ...] = ()
    outcome: Outcome = Outcome()

    @property
    def needs_lab(self) -> tuple[str, ...]:
        """Actions that only the lock-step can take, in the order of the file."""
        return tuple(dict.fromkeys(e.do for e in self.events if e.do in LAB_ACTIONS))
