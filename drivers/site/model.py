"""The site as built. One model per table; ids are names, links are ids, every link is checked in check.py.

Ratings stay in native units (A per phase, VA, W). Electrical nodes form a forest: each node has one parent in
its normal position, switches name the others. A rack hangs on two PDU nodes (A and B cord).
"""

from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

NodeKind = Literal["utility_feed", "generator", "substation", "transformer", "ups", "switchboard", "busway", "pdu"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Framing = Literal["tcp", "rtu", "tls"]  # Modbus TCP, RTU through a serial server, Modbus/TCP Security
CoolantName = Literal["water", "pg20", "pg25", "pg40"]  # in cooling.COOLANTS


def _split(value: object) -> object:
    """CSV cells hold several ids as `a|b`."""
    return tuple(v for v in value.split("|") if v) if isinstance(value, str) else value


Ids = Annotated[tuple[str, ...], BeforeValidator(_split)]


class SiteModel(BaseModel):
    """Frozen; an unknown column or key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Node(SiteModel):
    """An electrical node (nodes.csv). Load is counted at its output, for a utility feed at its meter."""

    id: str
    kind: NodeKind
    parent: str = ""  # empty for a utility feed and a generator only
    hall: str = ""
    rating: Positive
    rating_unit: Literal["A", "VA", "W"]  # A is per phase
    volt_v: Positive  # line to line (phase to neutral if single-phase)
    phases: Literal[1, 3] = 3
    derating: Annotated[float, Field(gt=0, le=1)] = 1.0  # e.g. 0.8 for continuous load on a standard breaker
    efficiency: Annotated[float, Field(gt=0.5, le=1)] = 1.0  # power out / power in near rating
    trip_curve: str = ""  # name in catalog.TRIP_CURVES
    eco: bool = False  # a UPS that stands on its bypass until the supply leaves its window
    reactance: Share | None = None  # in series, per unit on its rating; empty: usual of its kind


class Rack(SiteModel):
    """A GPU rack (racks.csv). Powers are AC, at its power supplies' inputs."""

    id: str
    hall: str
    row: str
    lease_group: str  # racks whose leases travel in one message, at most 64
    gpu_model: str  # name in catalog.GPUS
    gpus: Annotated[int, Field(gt=0)]
    other_w: NonNegative  # power that no GPU cap reaches (CPUs, switches, fans) at load
    idle_w: NonNegative
    floor_w: Positive  # lowest cap that the rack obeys and still works
    max_w: Positive  # nameplate
    safe_cap_w: Positive
    priority: Annotated[int, Field(ge=0, le=9)] = 0  # 0 is served first
    job: str = ""  # id in jobs; empty: a gang of its own, kind inference
    pdu_a: str
    pdu_b: str
    share_a: Share = 0.5  # of the rack's power on cord A; the rest is on B
    cdu: str
    liquid_share: Share  # of the heat that goes through the CDU; the rest reaches the same loop by rear doors
    actuator: str = "inband"  # name in actuators
    plate_j_per_k: NonNegative = 300.0  # per GPU: plate, package and trapped coolant (FACTS C.3)


class Job(SiteModel):
    """A job that runs at start (jobs.csv). The racks of a training job are one gang: one level for all."""

    id: str
    kind: Literal["training", "inference"]
    tenant: str = ""  # id in tenants; empty: nobody's


class Tenant(SiteModel):
    """Whose jobs they are (tenants.csv). Powers are those of its racks together, at their power supplies' inputs."""

    id: str
    guarantee_w: NonNegative = 0.0  # served before all others, as far as its racks ask for it
    max_w: Positive | None = None  # empty: no maximum


class Cdu(SiteModel):
    """A coolant distribution unit: in the rack or for a row (cdus.csv)."""

    id: str
    kind: Literal["in_rack", "row"]
    loop: str
    capacity_w: Positive
    flow_lpm: Positive  # nominal secondary flow
    supply_c: float  # secondary supply set-point
    coolant: CoolantName = "pg25"
    pump_w: NonNegative  # in_rack: inside the rack's power; row: load of its own, in equal parts on its feeds
    fed_from: Ids  # nodes that feed its pumps; any one of them is enough
    external_kpa: Positive = 190.0  # pressure drops at nominal flow: racks with their manifolds (FACTS P.1)
    exchanger_kpa: NonNegative = 57.0  # its heat exchanger (FACTS P.1: 247 together)
    filter_kpa: NonNegative = 0.0  # its filter, where it counts apart
    hold_kpa: Positive | None = None  # its pump holds this over the racks; empty: it holds its flow
    valve_stroke_s: NonNegative = 5.0  # closed to open (FACTS P.7: 120 for large units, 5 in its dynamic example)
    valve_ti_s: Positive = 40.0  # integral time of its valve's controller (FACTS P.7: 120 for large units)


class Loop(SiteModel):
    """A facility-water loop (loops.csv)."""

    id: str
    hall: str = ""
    coolant: CoolantName = "water"
    supply_c: float  # design supply
    return_max_c: float  # hottest return that its heat rejection and hoses allow
    flow_lpm: Positive  # design flow with the normal number of pumps
    volume_l: Positive
    pipe_l: NonNegative = 0.0  # of that, in the supply pipe, and as much in the return: pipe_l / flow each way


class CoolingUnit(SiteModel):
    """A pump, chiller, dry cooler or tower (cooling.csv). `capacity` is L/min for a pump, W of heat otherwise."""

    id: str
    kind: Literal["pump", "chiller", "dry_cooler", "tower"]
    loop: str
    capacity: Positive
    power_w: Positive  # electrical, at capacity
    standby: bool = False  # the +1 of N+1: starts when another stops
    fed_from: Ids  # its power is taken in equal parts from these nodes


class Load(SiteModel):
    """A load that nobody caps: network rooms, lighting, offices (loads.csv)."""

    id: str
    node: str
    power_w: NonNegative


class Storage(SiteModel):
    """A battery plant on one node (storage.csv)."""

    id: str
    node: str
    power_w: Positive
    energy_wh: Positive
    response_s: Positive
    reserve_share: Share = 0.2  # of the energy, never planned away
    round_trip: Annotated[float, Field(gt=0.5, le=1)] = 0.9


class Generator(SiteModel):
    """A set or plant that stands by (generators.csv): `id` is its node; a tie or transfer switch joins it to a bus."""

    id: str
    start_s: Positive  # from the loss of the bus until it can take load
    ramp_w_per_s: Positive  # by which it can raise its load
    block_share: Annotated[float, Field(gt=0, le=1)] = 0.3  # of its rating: largest step of load at once
    min_run_s: NonNegative = 300.0
    start_failure: Share = 0.0  # of each attempt


class Switch(SiteModel):
    """A tie, transfer switch, bypass or breaker (switches.csv): joins `a` and `b` when closed."""

    id: str
    kind: Literal["tie", "transfer", "bypass", "breaker"]
    a: str
    b: str
    normal: Literal["open", "closed"]
    transfer_s: NonNegative = 0.0


class Gateway(SiteModel):
    """A Modbus gateway or serial server: units behind it share its time (gateways.csv)."""

    id: str
    host: str
    port: Annotated[int, Field(gt=0, lt=65536)]
    service_ms: Positive  # it really takes this long for one request, the line's own time not counted where `baud` is
    in_flight: Annotated[int, Field(ge=1, le=64)] = 1  # requests it queues
    framing: Framing = "tcp"
    baud: Annotated[int, Field(ge=300, le=1_000_000)] | None = None  # of the serial line behind it
    gap_ms: Annotated[float, Field(ge=0, le=1000)] = 0.0  # rest between a reply and the next request (rtu)
    fed_from: Ids


class Device(SiteModel):
    """Something that speaks (devices.csv): what it is, where, and what it measures."""

    id: str
    profile: str  # name of a file in drivers/profiles
    protocol: Literal["modbus_tcp", "dsx", "sparkplug"]
    gateway: str = ""  # empty: own connection at host, port
    host: str = ""
    port: Annotated[int, Field(ge=0, lt=65536)] = 0
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    framing: Framing = "tcp"  # on a connection of its own; behind a gateway the gateway's counts
    in_flight: Annotated[int, Field(ge=1, le=16)] = 1  # requests it queues, on a connection of its own
    topic: str = ""  # DSX tagPath; Sparkplug GROUP/NODE or GROUP/NODE/DEVICE
    measures: str  # id of the node, rack, CDU, loop, cooling unit, storage or switch
    period_s: Positive = 1.0
    fed_from: Ids = ()  # any one is enough; empty: lives with what it measures
    vendor: str = ""  # who it must say that it is, before anything is written to it; * stands for anything
    model: str = ""
    firmware: str = ""
    serial: str = ""


class Actuator(SiteModel):
    """How caps reach the GPUs of a rack."""

    latency_s: NonNegative  # until a new cap begins to act
    settle_s: Positive  # time constant of the first-order settling
    resolution_w: Positive = 1.0  # of the rack's cap
    register_max_w: Positive = 1e9  # largest cap it can express


class Mqtt(SiteModel):
    """Where the broker is."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(gt=0, lt=65536)] = 1883
    integration: str = "headroom"  # our id on the DSX bus
    sparkplug_host: str = "headroom"  # our id as Sparkplug host application
    fed_from: Ids = ()


class Control(SiteModel):
    """What the site's operator and its utility ask of the controller."""

    envelope_w: Positive  # at the utility meters together, losses and cooling included
    ramp_up_w_per_s: Positive
    ramp_down_w_per_s: Positive
    power_factor_worst: Annotated[float, Field(gt=0.5, le=1)] = 0.95
    lease_ttl_s: Positive = 10.0
    lease_decay_s: Positive = 5.0
    supply_max_c: float = 45.0  # warmest secondary supply the racks accept
    objective: Literal["fair", "throughput"] = "fair"
    leaf: Literal["rack", "gpu"] = "rack"  # what gets a cap of its own
    security: Literal["corrective", "preventive", "none"] = "corrective"  # against the loss of any one element
    disobedient_share: Share = 0.05  # of the racks under a survivor that may ignore a cap after a loss
    react_s: NonNegative = 2.0  # from a loss to new caps at the agents
    ups_battery_s: NonNegative = 120.0  # a UPS carries its rating on its battery for this long
    trip_margin_s: NonNegative = 10.0  # no protection ever comes nearer to its trip than this
    planned_overload: Share = 0.0  # of a trip curve that may be used on purpose, and paid back
    shed: Literal["pause", "slow", "down", "off"] = "down"  # last rung of the shed ladder that may be used
    fed_from: Ids = ()  # nodes that feed the controllers


class Site(SiteModel):
    """The whole site. `where` maps (table, id) to `file:line` for messages."""

    name: str
    title: str
    assumptions: tuple[str, ...] = ()
    control: Control
    mqtt: Mqtt = Mqtt()
    actuators: dict[str, Actuator]
    nodes: tuple[Node, ...]
    racks: tuple[Rack, ...]
    jobs: tuple[Job, ...] = ()
    tenants: tuple[Tenant, ...] = ()
    cdus: tuple[Cdu, ...]
    loops: tuple[Loop, ...]
    cooling: tuple[CoolingUnit, ...]
    loads: tuple[Load, ...] = ()
    storage: tuple[Storage, ...] = ()
    generators: tuple[Generator, ...] = ()
    switches: tuple[Switch, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    devices: tuple[Device, ...]
    where: dict[str, str] = {}  # "table/id" -> "racks.csv:17"

    @cached_property
    def node_index(self) -> dict[str, int]:
        """Position of each node in `nodes`."""
        return {n.id: i for i, n in enumerate(self.nodes)}

    @cached_property
    def rack_index(self) -> dict[str, int]:
        """Position of each rack in `racks`."""
        return {r.id: i for i, r in enumerate(self.racks)}

    @cached_property
    def lease_groups(self) -> dict[str, tuple[int, ...]]:
        """Rack positions of each lease group, in rack order."""
        groups: dict[str, list[int]] = {}
        for i, rack in enumerate(self.racks):
            groups.setdefault(rack.lease_group, []).append(i)
        return {name: tuple(members) for name, members in groups.items()}

    def ancestors(self, node_id: str) -> tuple[str, ...]:
        """The node itself and every node above it, up to its feed."""
        path = []
        while node_id:
            path.append(node_id)
            node_id = self.nodes[self.node_index[node_id]].parent
        return tuple(path)
