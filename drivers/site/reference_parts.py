"""Building blocks of the reference sites: feeds, blocks of four UPS, rows of racks, gateways, addresses.

Everything is a pure function of a `Plan`, so that a site is the same on every machine. Figures and their sources
stand in the assumptions of each site (reference.py).
"""

from dataclasses import dataclass, field

from drivers.site.model import (
    Cdu,
    CoolingUnit,
    Device,
    Gateway,
    Generator,
    Job,
    Load,
    Loop,
    Node,
    Rack,
    Storage,
    Switch,
    Tenant,
)

PAIRS = ((1, 2), (3, 4), (1, 3), (2, 4), (1, 4), (2, 3))  # cords A and B of the six rows of a block of four UPS
UNITS_PER_GATEWAY = 35
RACKS_PER_ROW_CDU = 6
GATEWAY_PORT, METER_PORT, CDU_PORT, STORAGE_PORT = 15020, 15021, 15022, 15023
MV_METER, LV_METER = "schneider_pm5560", "janitza_umg96rm"


@dataclass(frozen=True)
class Model:
    """A kind of rack; `cdu_*` for its own CDU, or for the CDU of a pod's racks when `row_cdu`."""

    gpu_model: str
    gpus: int
    other_w: float
    idle_w: float
    floor_w: float
    max_w: float
    safe_cap_w: float
    liquid_share: float
    pdu_a: float  # rating of each cord's PDU [A]
    row_cdu: bool
    cdu_capacity_w: float
    cdu_flow_lpm: float
    cdu_pump_w: float


HOPPER = Model("H100", 64, 20400, 20000, 44800, 81600, 61200, 0.75, 150, False, 70000, 90, 400)
GB200 = Model("GB200", 72, 24000, 18000, 52800, 132000, 99000, 0.85, 250, True, 800000, 950, 4800)


@dataclass(frozen=True)
class JobPlan:
    """A job and how many racks of one model it takes."""

    id: str
    kind: str
    tenant: str
    priority: int
    model: Model
    racks: int


@dataclass(frozen=True)
class Plan:
    """Sizes of a reference site."""

    halls: int
    blocks: int  # per hall
    rows: tuple[tuple[int, int], ...]  # per row of racks, in order: (Hopper racks, GB200 racks)
    hopper_gpus: int
    gb200_gpus: int
    jobs: tuple[JobPlan, ...]
    tenants: tuple[Tenant, ...]
    feed_v: float
    substation_v: float
    feed_va: float
    transformer_va: float
    ups_va: float
    mech_va: float
    switchboard_a: float
    network_w: float  # per UPS
    air_w: float  # per mechanical switchboard
    loop: Loop  # without id and hall
    units: tuple[tuple[str, int, int, float, float], ...]  # (kind, duty, standby, capacity, power_w) per loop
    cdu_supply_c: float
    storage: tuple[float, float]  # (power_w, energy_wh) of each of the two plants
    net: int  # added to the second byte of every address, so that two sites run side by side
    slow_pods: tuple[str, ...] = ()  # pods whose caps go through the BMC
    generators: tuple[float, float, float] | None = None  # (VA, start_s, ramp_w_per_s) of one on each substation


@dataclass
class Tables:
    """The tables of a site while they grow."""

    nodes: list[Node] = field(default_factory=list)
    racks: list[Rack] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    cdus: list[Cdu] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    cooling: list[CoolingUnit] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    storage: list[Storage] = field(default_factory=list)
    generators: list[Generator] = field(default_factory=list)
    switches: list[Switch] = field(default_factory=list)
    gateways: list[Gateway] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    meters: int = 0  # addresses used


STATUS_S = 0.25  # whoever may be lost with more than one row of racks is read four times a second


def spread(total: int, parts: int) -> tuple[int, ...]:
    """`total` things over `parts` places, as evenly as whole numbers allow, without runs of the larger."""
    return tuple((i + 1) * total // parts - i * total // parts for i in range(parts))


def address(kind: int, index: int) -> str:
    """Loopback address of the device `index` of a kind (second byte)."""
    return f"127.{kind}.{index // 250}.{index % 250 + 1}"


def add_node(t: Tables, plan: Plan, node: Node, aux: tuple[str, ...]) -> None:
    """A node above the racks, with its meter; `aux` feeds the meter."""
    t.nodes.append(node)
    profile = MV_METER if node.kind in ("utility_feed", "generator", "substation", "transformer") else LV_METER
    host = address(20 + plan.net, t.meters)
    t.meters += 1
    t.devices.append(
        Device(
            id=node.id,
            profile=profile,
            protocol="modbus_tcp",
            host=host,
            port=METER_PORT,
            measures=node.id,
            period_s=1.0 if node.kind == "busway" else STATUS_S,
            fed_from=aux,
        )
    )


def add_block(t: Tables, plan: Plan, hall: int, block: int, rows: tuple[tuple[int, int], ...]) -> None:
    """Four transformers and UPS, two on each substation, twelve busways, and the racks of six rows."""
    name, hall_id = f"h{hall}b{block}", f"hall{hall}"
    aux = (f"{name}u1", f"{name}u2")
    for u in (1, 2, 3, 4):
        common = {"hall": hall_id, "rating_unit": "VA", "volt_v": 415}
        transformer = {"kind": "transformer", "parent": f"sub{2 - u % 2}", "rating": plan.transformer_va}
        transformer |= {"efficiency": 0.99, "trip_curve": "transformer_c57_91"}
        add_node(t, plan, Node.model_validate({"id": f"{name}t{u}"} | common | transformer), aux)
        ups = {"kind": "ups", "parent": f"{name}t{u}", "rating": plan.ups_va, "efficiency": 0.973}
        add_node(t, plan, Node.model_validate({"id": f"{name}u{u}", "trip_curve": "ups_apc"} | common | ups), aux)
        t.switches.append(
            Switch(id=f"{name}y{u}", kind="bypass", a=f"{name}t{u}", b=f"{name}u{u}", normal="open", transfer_s=0.004)
        )
        t.loads.append(Load(id=f"{name}net{u}", node=f"{name}u{u}", power_w=plan.network_w))
    for row, (a, b) in enumerate(PAIRS, start=1):
        for cord, ups_no in (("a", a), ("b", b)):
            busway = Node(
                id=f"{name}r{row}{cord}",
                kind="busway",
                parent=f"{name}u{ups_no}",
                hall=hall_id,
                rating=2500,
                rating_unit="A",
                volt_v=415,
                derating=0.8,
                efficiency=0.997,
                trip_curve="ul489_standard",
            )
            add_node(t, plan, busway, aux)
    first = len(t.racks)
    for row, (hoppers, gb200s) in enumerate(rows, start=1):
        add_row(t, plan, hall, block, row, (HOPPER,) * hoppers + (GB200,) * gb200s)
    add_gateways(t, plan, name, t.racks[first:])


def add_row(t: Tables, plan: Plan, hall: int, block: int, row: int, models: tuple[Model, ...]) -> None:
    """Racks on busways A and B, their PDUs and CDUs; three rows are a pod, one lease message."""
    name = f"h{hall}b{block}r{row}"
    pod = f"h{hall}b{block}p{1 if row <= len(PAIRS) // 2 else 2}"
    pod_no = 2 * (block - 1) + int(pod[-1])
    loop = f"h{hall}loop{1 if pod_no <= plan.blocks else 2}"
    for place, model in enumerate(models, start=1):
        rack_id = f"{name}-{place:02d}"
        for cord in "ab":
            pdu: dict[str, object] = {
                "id": f"{rack_id}{cord}",
                "kind": "pdu",
                "parent": f"{name}{cord}",
                "hall": f"hall{hall}",
            }
            pdu |= {"rating": model.pdu_a, "rating_unit": "A", "volt_v": 415, "derating": 0.8}
            t.nodes.append(Node.model_validate(pdu | {"trip_curve": "ul489_standard"}))
        in_pod = sum(r.lease_group == pod and r.gpu_model == model.gpu_model for r in t.racks[-100:])
        cdu_id = f"{pod}-cdu{1 + in_pod // RACKS_PER_ROW_CDU}" if model.row_cdu else f"{rack_id}-cdu"
        if not any(c.id == cdu_id for c in t.cdus[-40:]):
            fed = (f"h{hall}b{block}u1", f"h{hall}b{block}u2") if model.row_cdu else (f"{rack_id}a", f"{rack_id}b")
            add_cdu(t, plan, model, cdu_id, loop, fed)
        t.racks.append(
            Rack(
                id=rack_id,
                hall=f"hall{hall}",
                row=name,
                lease_group=pod,
                gpu_model=model.gpu_model,
                gpus=model.gpus,
                other_w=model.other_w,
                idle_w=model.idle_w,
                floor_w=model.floor_w,
                max_w=model.max_w,
                safe_cap_w=model.safe_cap_w,
                pdu_a=f"{rack_id}a",
                pdu_b=f"{rack_id}b",
                cdu=cdu_id,
                liquid_share=model.liquid_share,
                actuator="bmc_fast" if pod in plan.slow_pods else "inband",
            )
        )


def add_cdu(t: Tables, plan: Plan, model: Model, cdu_id: str, loop: str, fed: tuple[str, ...]) -> None:
    """A CDU with its own Modbus connection."""
    host = address(30 + plan.net, len(t.cdus))
    t.cdus.append(
        Cdu(
            id=cdu_id,
            kind="row" if model.row_cdu else "in_rack",
            loop=loop,
            capacity_w=model.cdu_capacity_w,
            flow_lpm=model.cdu_flow_lpm,
            supply_c=plan.cdu_supply_c,
            pump_w=model.cdu_pump_w,
            fed_from=fed,
        )
    )
    t.devices.append(
        Device(id=cdu_id, profile="delta_rpu_orv3", protocol="modbus_tcp", host=host, port=CDU_PORT, measures=cdu_id)
    )


def add_gateways(t: Tables, plan: Plan, block: str, racks: list[Rack]) -> None:
    """A block's PDUs behind its gateways: all A cords, then all B cords, so that no gateway blinds a rack."""
    pdus = [r.pdu_a for r in racks] + [r.pdu_b for r in racks]
    count = -(-len(pdus) // UNITS_PER_GATEWAY)
    start = 0
    for n, size in enumerate(spread(len(pdus), count), start=1):
        gateway = f"{block}g{n}"
        host = address(10 + plan.net, len(t.gateways))
        fed = (f"{block}u{1 + n % 2}", f"{block}u{3 + n % 2}")
        t.gateways.append(Gateway(id=gateway, host=host, port=GATEWAY_PORT, service_ms=12, fed_from=fed))
        for unit, pdu in enumerate(pdus[start : start + size], start=1):
            t.devices.append(
                Device(
                    id=pdu,
                    profile="raritan_px_xerus",
                    protocol="modbus_tcp",
                    gateway=gateway,
                    unit=unit,
                    measures=pdu,
                )
            )
        start += size
