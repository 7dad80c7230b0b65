"""A small good site for tests: two feeds, one block of four UPS, four racks, one loop."""

import csv
from pathlib import Path

from drivers.check import check_path
from drivers.profile import load_profiles
from drivers.site.model import (
    Actuator,
    Cdu,
    Control,
    CoolingUnit,
    Device,
    Gateway,
    Job,
    Load,
    Loop,
    Node,
    Rack,
    Site,
    Storage,
    Switch,
    Tenant,
)
from drivers.site.problems import Problem

RACKS = 4
CORDS = (("u1", "u2"), ("u3", "u4"), ("u1", "u3"), ("u2", "u4"))  # UPS of the A and B cord of each rack


def _nodes() -> tuple[Node, ...]:
    nodes: list[Node] = []

    def add(name: str, kind: str, parent: str, rating: float, unit: str, **more: object) -> None:
        row = {"id": name, "kind": kind, "parent": parent, "rating": rating, "rating_unit": unit, "volt_v": 415}
        nodes.append(Node.model_validate(row | more))

    for i in (1, 2):
        add(f"feed{i}", "utility_feed", "", 300e3, "VA", volt_v=13800)
        add(f"sub{i}", "substation", f"feed{i}", 300e3, "VA", volt_v=13800, efficiency=0.995)
    for i in (1, 2, 3, 4):
        add(f"t{i}", "transformer", f"sub{2 - i % 2}", 250e3, "VA", efficiency=0.99)
        add(f"u{i}", "ups", f"t{i}", 200e3, "VA", efficiency=0.97, hall="hall1")
    for rack, cords in enumerate(CORDS, start=1):
        for cord, ups in zip("ab", cords, strict=True):
            add(f"w{rack}{cord}", "busway", ups, 400, "A", derating=0.8, efficiency=0.997, hall="hall1")
            add(f"r{rack}{cord}", "pdu", f"w{rack}{cord}", 150, "A", derating=0.8, hall="hall1")
    for side, sub in (("a", 1), ("b", 2)):
        add(f"ms{side}", "switchboard", f"sub{sub}", 100, "A", volt_v=480, hall="hall1")
    return tuple(nodes)


def _racks() -> tuple[Rack, ...]:
    return tuple(
        Rack(
            id=f"r{i}",
            hall="hall1",
            row="row1",
            lease_group="g1" if i < 3 else "g2",
            gpu_model="H100",
            gpus=64,
            other_w=20400,
            idle_w=20000,
            floor_w=44800,
            max_w=81600,
            safe_cap_w=61200,
            priority=0 if i == 4 else 1,
            job="serve" if i == 4 else "train",
            pdu_a=f"r{i}a",
            pdu_b=f"r{i}b",
            cdu=f"c{i}",
            liquid_share=0.75,
        )
        for i in range(1, RACKS + 1)
    )


def _devices(nodes: tuple[Node, ...]) -> tuple[Device, ...]:
    devices: list[Device] = []

    def add(name: str, profile: str, host: str = "", port: int = 0, **more: object) -> None:
        row: dict[str, object] = {"id": name, "profile": profile, "protocol": "modbus_tcp", "measures": name}
        devices.append(Device.model_validate(row | {"host": host, "port": port} | more))

    for i, node in enumerate(nodes, start=1):
        if node.kind in ("utility_feed", "substation", "transformer"):
            add(node.id, "schneider_pm5560", f"127.220.0.{i}", 15021, fed_from=("u1", "u2"))
        elif node.kind != "pdu":
            add(node.id, "janitza_umg96rm", f"127.220.0.{i}", 15021, fed_from=("u1", "u2"))
    for cord in "ab":
        for i in range(1, RACKS + 1):
            add(f"r{i}{cord}", "raritan_px_xerus", gateway=f"gw{cord}", unit=i)
    for i in range(1, RACKS + 1):
        add(f"c{i}", "delta_rpu_orv3", f"127.230.0.{i}", 15022)
    add("bess1", "sunspec_battery", "127.240.0.1", 15023)
    add("loop1", "dsx_loop", protocol="dsx", topic="hall1/loop1")
    for n in (1, 2, 3):
        add(f"pump{n}", "dsx_pump", protocol="dsx", topic=f"hall1/loop1/pump{n}")
    add("dry1", "dsx_drycooler", protocol="dsx", topic="hall1/loop1/drycooler1")
    add("chiller1", "dsx_chiller", protocol="dsx", topic="hall1/loop1/chiller1")
    return tuple(devices)


def tiny_site(**changes: object) -> Site:
    """A good site of four Hopper racks (326 kW nameplate, 330 kW envelope); `changes` replace fields of Site."""
    nodes = _nodes()
    cooling = {"loop": "loop1", "standby": False}
    units = [
        cooling | {"id": f"pump{n}", "kind": "pump", "capacity": 150, "power_w": 800, "fed_from": f"ms{'bab'[n - 1]}"}
        for n in (1, 2, 3)
    ]
    units[2]["standby"] = True
    units.append(cooling | {"id": "dry1", "kind": "dry_cooler", "capacity": 300e3, "power_w": 5000, "fed_from": "msa"})
    units.append(cooling | {"id": "chiller1", "kind": "chiller", "capacity": 60e3, "power_w": 10000, "fed_from": "msb"})
    parts: dict[str, object] = {
        "name": "tiny",
        "title": "Four racks on one block",
        "control": Control(
            envelope_w=330e3,
            ramp_up_w_per_s=5000,
            ramp_down_w_per_s=10000,
            lease_decay_s=15,
            fed_from=("u1", "u2"),
        ),
        "actuators": {"inband": Actuator(latency_s=0.2, settle_s=0.3, resolution_w=10, register_max_w=655350)},
        "nodes": nodes,
        "racks": _racks(),
        "jobs": (Job(id="train", kind="training", tenant="a"), Job(id="serve", kind="inference", tenant="b")),
        "tenants": (Tenant(id="a", guarantee_w=150e3), Tenant(id="b", max_w=81e3)),
        "cdus": tuple(
            Cdu(
                id=f"c{i}",
                kind="in_rack",
                loop="loop1",
                capacity_w=70000,
                flow_lpm=90,
                supply_c=40,
                pump_w=400,
                fed_from=(f"r{i}a", f"r{i}b"),
            )
            for i in range(1, RACKS + 1)
        ),
        "loops": (Loop(id="loop1", hall="hall1", supply_c=36, return_max_c=52, flow_lpm=300, volume_l=600),),
        "cooling": tuple(CoolingUnit.model_validate(u) for u in units),
        "loads": (Load(id="net1", node="u1", power_w=1000), Load(id="net2", node="u2", power_w=1000)),
        "storage": (Storage(id="bess1", node="sub1", power_w=100e3, energy_wh=400e3, response_s=0.25),),
        "switches": (Switch(id="tie", kind="tie", a="msa", b="msb", normal="open", transfer_s=5),),
        "gateways": tuple(
            Gateway(id=f"gw{c}", host=f"127.210.0.{i}", port=15020, service_ms=12, fed_from=("u1", "u2"))
            for i, c in enumerate("ab", start=1)
        ),
        "devices": _devices(nodes),
    }
    return Site.model_validate(parts | changes)


def edit_cell(folder: Path, table: str, row_id: str, column: str, value: str) -> str:
    """Change one cell of a site's table on disk; an absent column is added. Returns the row's `file:line`."""
    path = folder / f"{table}.csv"
    rows = list(csv.reader(path.read_text().splitlines()))
    if column not in rows[0]:
        rows = [[*row, column if i == 0 else ""] for i, row in enumerate(rows)]
    line = next(i for i, row in enumerate(rows) if row[0] == row_id)
    rows[line][rows[0].index(column)] = value
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return f"{path.name}:{line + 1}"


def drop_rows(folder: Path, table: str, *row_ids: str) -> None:
    """Remove rows of a site's table on disk."""
    path = folder / f"{table}.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(x for x in lines if x.partition(",")[0] not in row_ids))


def copy_row(folder: Path, table: str, row_id: str, new_id: str) -> str:
    """Append a copy of a row under another id. Returns its `file:line`."""
    path = folder / f"{table}.csv"
    lines = path.read_text().splitlines()
    lines.append(next(x for x in lines if x.partition(",")[0] == row_id).replace(row_id, new_id, 1))
    path.write_text("\n".join(lines) + "\n")
    return f"{path.name}:{len(lines)}"


def yaml_line(folder: Path, text: str) -> str:
    """Where a text stands in site.yaml."""
    lines = (folder / "site.yaml").read_text().splitlines()
    return f"site.yaml:{next(i for i, x in enumerate(lines, start=1) if text in x)}"


def edit_yaml(folder: Path, old: str, new: str) -> str:
    """Replace a text of site.yaml once; returns where the new one stands."""
    path = folder / "site.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return yaml_line(folder, new.splitlines()[0])


def only(folder: Path) -> Problem:
    """The one problem of a site."""
    problems = check_path(folder, load_profiles())
    assert len(problems) == 1, problems
    return problems[0]
