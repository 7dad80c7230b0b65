"""Every rule of the site check: a good site with one mistake shows that mistake, its line and the way out."""

from functools import cache
from pathlib import Path

import pytest
import yaml
from helpers_site import copy_row, drop_rows, edit_cell, edit_yaml, only, tiny_site, yaml_line

from drivers.check import check_path, check_site
from drivers.profile import load_profiles
from drivers.site.model import Control, Device, Gateway, Generator, Node, Site, Switch
from drivers.site.problems import Problem, SiteError
from drivers.site.write import write_site

profiles = cache(load_profiles)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_site(tiny_site(), tmp_path)
    return tmp_path


def test_good_site_has_no_problem(folder: Path) -> None:
    assert check_path(folder, profiles()) == []
    assert check_site(tiny_site(), profiles()) == []


# (table, row, column, new value, what is wrong, what to do): one cell, one problem
CELLS: tuple[tuple[str, str, str, str, str, str], ...] = (
    ("nodes", "w1a", "parent", "u11", "parent 'u11' is not in nodes.csv", "Did you mean 'u1'?"),
    ("nodes", "w1a", "parent", "", "busway 'w1a' has no parent", "only feeds and generators have none"),
    ("nodes", "feed2", "parent", "feed1", "utility feed 'feed2' has the parent 'feed1'", "Leave its parent empty"),
    ("nodes", "w1a", "parent", "r2a", "busway 'w1a' hangs on the PDU 'r2a'", "name the busway or UPS"),
    ("nodes", "u1", "parent", "w1a", "nodes feed each other in a ring: u1 <- w1a <- u1", "Mend one of their parents"),
    ("nodes", "u1", "trip_curve", "ups_apcc", "trip curve 'ups_apcc' is not in", "Did you mean 'ups_apc'?"),
    ("nodes", "msa", "trip_curve", "ul489_standard", "derating 1 of 'msa' is above the 0.8", "Set derating to 0.8"),
    ("nodes", "w1a", "eco", "true", "busway 'w1a' has eco", "Leave eco empty"),
    ("racks", "r1", "pdu_a", "r1x", "pdu_a 'r1x' is not in nodes.csv", "Did you mean 'r1"),
    ("racks", "r1", "pdu_a", "u1", "pdu_a 'u1' is a ups", "A rack hangs on rack PDUs"),
    ("racks", "r1", "cdu", "cd1", "cdu 'cd1' is not in cdus.csv", "Did you mean 'c1'?"),
    ("racks", "r1", "job", "trane", "job 'trane' is not in jobs.csv", "Did you mean 'train'?"),
    ("racks", "r1", "gpu_model", "H1OO", "gpu_model 'H1OO' is not in the catalog of GPUs", "Add it to"),
    ("racks", "r1", "actuator", "in-band", "actuator 'in-band' is not in site.yaml", "Did you mean 'inband'?"),
    ("racks", "r2", "priority", "2", "priority 2 in job 'train', whose rack 'r1' has 1", "one priority"),
    ("racks", "r2", "hall", "hall2", "lease group 'g1' is in hall 'hall1', this rack in 'hall2'", "in one hall"),
    ("racks", "r1", "idle_w", "90000", "idle_w 90000 is above max_w 81600", "Idle power is below nameplate"),
    ("racks", "r1", "safe_cap_w", "44000", "floor_w 44800, safe_cap_w 44000, max_w 81600 are out of order", "Keep"),
    ("racks", "r1", "other_w", "44800", "other_w 44800 takes all of floor_w 44800", "raise floor_w or correct"),
    ("racks", "r1", "floor_w", "30000", "less than the lowest cap measured (25%)", "Raise floor_w to 35700"),
    ("loops", "loop1", "pipe_l", "250", "pipe_l is 250 L each way of volume_l 600 L in all", "Leave 20% of it outside"),
    ("jobs", "train", "tenant", "aa", "tenant 'aa' is not in tenants.csv", "Did you mean 'a'?"),
    (
        "tenants",
        "a",
        "guarantee_w",
        "250000",
        "guarantee_w of tenant 'a' is 250.00 kW, its 3 racks take 244.80",
        "Lower",
    ),
    ("tenants", "a", "max_w", "140000", "guarantee_w of tenant 'a' is 150.00 kW, above its max_w of 140", "Keep"),
    (
        "tenants",
        "b",
        "max_w",
        "44000",
        "max_w of tenant 'b' is 44.00 kW, the floors of its 1 racks need 44.80",
        "Raise",
    ),
    ("tenants", "b", "guarantee_w", "-1", "guarantee_w is -1", "at least 0"),
    ("cdus", "c1", "loop", "loop2", "loop 'loop2' is not in loops.csv", "Did you mean 'loop1'?"),
    ("cdus", "c1", "supply_c", "36", "supply_c is 36 C, not above the 36 C of its loop", "by its approach"),
    ("cdus", "c1", "supply_c", "46", "supply_c is 46 C, the racks accept 45 C", "raise control.supply_max_c"),
    ("cdus", "c1", "fed_from", "r1a|r1c", "fed_from 'r1c' is not in nodes.csv", "Did you mean 'r1"),
    ("cdus", "c1", "fed_from", "", "fed_from is missing", "Give a value"),
    ("cdus", "c1", "capacity_w", "40000", "safe caps give CDU 'c1' 45.90 kW of heat", "capacity is 40.00 kW"),
    ("cooling", "pump1", "fed_from", "", "fed_from is missing", "Give a value"),
    ("cooling", "pump1", "fed_from", "msc", "fed_from 'msc' is not in nodes.csv", "Did you mean 'ms"),
    ("cooling", "pump3", "loop", "loop9", "loop 'loop9' is not in loops.csv", "Did you mean 'loop1'?"),
    ("loads", "net1", "node", "u9", "node 'u9' is not in nodes.csv", "Add it to nodes.csv"),
    ("storage", "bess1", "node", "sub3", "node 'sub3' is not in nodes.csv", "Did you mean 'sub"),
    ("switches", "tie", "b", "msx", "node 'msx' is not in nodes.csv", "Did you mean 'ms"),
    ("switches", "tie", "b", "msa", "'tie' joins 'msa' to itself", "Name two nodes"),
    ("gateways", "gwa", "fed_from", "", "fed_from is missing", "Give a value"),
    ("gateways", "gwa", "fed_from", "u7", "fed_from 'u7' is not in nodes.csv", "Add it to nodes.csv"),
    ("gateways", "gwa", "service_ms", "300", "polls of its 4 units take 1.20 s of each second", "1.33 times"),
    ("gateways", "gwa", "baud", "2400", "polls of its 4 units take 1.44 s of each second at", "to 1.7 s"),
    ("gateways", "gwa", "gap_ms", "5", "'gwa' has a gap_ms without framing rtu", "Leave gap_ms empty"),
    ("gateways", "gwa", "framing", "ascii", "framing is 'ascii'", "It must be 'tcp', 'rtu' or 'tls'"),
    ("devices", "r1a", "framing", "rtu", "'r1a' has framing rtu and no connection of its own", "in gateways.csv"),
    ("devices", "r1a", "in_flight", "4", "'r1a' has in_flight 4 and no connection of its own", "in gateways.csv"),
    ("devices", "pump1", "framing", "tls", "'pump1' has framing tls and no connection of its own", "Leave it empty"),
    ("devices", "r1a", "profile", "raritan_xerus", "profile 'raritan_xerus' is not in", "'raritan_px_xerus'?"),
    ("devices", "r1a", "gateway", "gwz", "gateway 'gwz' is not in gateways.csv", "Did you mean 'gw"),
    ("devices", "r1a", "host", "127.0.0.9", "'r1a' has a gateway and a host", "Keep one"),
    ("devices", "r1a", "topic", "a/b", "'r1a' is on Modbus but has a topic", "Leave topic empty"),
    ("devices", "r2a", "unit", "1", "unit 1 at 127.210.0.1:15020 is also 'r1a'", "a place of its own"),
    ("devices", "u1", "host", "", "'u1' has no address", "host and port"),
    ("devices", "pump1", "topic", "", "'pump1' has no topic", "tagPath"),
    ("devices", "pump1", "host", "127.0.0.1", "'pump1' is on MQTT but has a Modbus address", "Leave gateway"),
    ("devices", "pump2", "topic", "hall1/loop1/pump1", "topic 'hall1/loop1/pump1' is also 'pump1'", "of its own"),
    ("devices", "u1", "fed_from", "u8", "fed_from 'u8' is not in nodes.csv", "Add it to nodes.csv"),
)


@pytest.mark.parametrize(("table", "row", "column", "value", "what", "fix"), CELLS)
def test_one_wrong_cell(folder: Path, table: str, row: str, column: str, value: str, what: str, fix: str) -> None:
    where = edit_cell(folder, table, row, column, value)
    problems = check_path(folder, profiles())
    assert [p.where for p in problems] == [where], problems
    assert what in problems[0].what
    assert fix in str(problems[0])


def test_a_serial_line_of_35_meters_needs_longer_periods() -> None:
    """At 19,200 baud, whatever their gateway takes on top: the check says how long, and with that it is content."""
    gateway = Gateway(
        id="line", host="10.0.0.9", port=4001, service_ms=5, framing="rtu", baud=19_200, gap_ms=2, fed_from=("u1",)
    )

    def problems(period_s: float) -> list[Problem]:
        site = tiny_site()
        meters = tuple(
            Device.model_validate(
                {"id": f"m{u}", "profile": "janitza_umg96rm", "protocol": "modbus_tcp", "gateway": "line"}
                | {"unit": u, "measures": "u1", "period_s": period_s}
            )
            for u in range(1, 36)
        )
        site = site.model_copy(update={"devices": (*site.devices, *meters), "gateways": (*site.gateways, gateway)})
        return [p for p in check_site(site, profiles()) if "units" in p.what]

    (found,) = problems(1.0)
    assert "the polls of its 35 units take 3.45 s of each second at 5 ms and 19200 baud" in found.what
    assert "to 3.9 s, or divide them over 4 gateways" in found.fix
    assert problems(3.9) == []


def test_two_racks_on_one_pdu(folder: Path) -> None:
    where = edit_cell(folder, "racks", "r2", "pdu_a", "r1a")
    problems = check_path(folder, profiles())
    assert (
        Problem(
            where,
            "pdu_a 'r1a' carries rack 'r1' already",
            "Give each rack its own two PDUs: their meters are the rack's meter",
        )
        in problems
    )
    assert all(p == problems[-1] or "on pdu 'r1a' need" in p.what for p in problems)


def test_lease_group_too_large() -> None:
    site = tiny_site()
    many = tuple(site.racks[0].model_copy(update={"id": f"x{i}", "lease_group": "big"}) for i in range(65))
    problems = check_site(site.model_copy(update={"racks": many}), profiles())
    assert any(p.what == "lease group 'big' has 65 racks" and "at most 64" in p.fix for p in problems)


@pytest.mark.parametrize(
    ("table", "other"),
    [("racks", ""), ("devices", ""), ("jobs", ""), ("nodes", "")],
)
def test_same_id_twice_in_files(folder: Path, table: str, other: str) -> None:
    row = {"racks": "r1", "devices": "u1", "jobs": "train", "nodes": "u1"}[table]
    first = edit_cell(folder, table, row, "id", row)
    where = copy_row(folder, table, row, row)
    assert only(folder) == Problem(where, f"id '{row}' stands already in {first}", "Rename or remove one")


def test_same_id_twice_in_memory() -> None:
    site = tiny_site()
    problems = check_site(site.model_copy(update={"jobs": (*site.jobs, site.jobs[0])}), profiles())
    assert problems == [Problem("jobs.csv:1", "id 'train' stands more than once", "Rename or remove one")]


def test_same_id_for_two_things(folder: Path) -> None:
    edit_cell(folder, "storage", "bess1", "id", "net1")  # a load is not measured: no clash
    drop_rows(folder, "devices", "bess1")
    assert only(folder).what == "nothing reports on 'net1'"
    where = edit_cell(folder, "storage", "net1", "id", "u1")
    first = check_path(folder, profiles())[0]
    assert first == Problem(
        where, "id 'u1' stands also in nodes.csv", "Rename one: a device that measures 'u1' would be ambiguous"
    )


def test_wrong_kind_of_meter(folder: Path) -> None:
    where = edit_cell(folder, "devices", "w1a", "measures", "c1")
    problems = check_path(folder, profiles())
    assert [p.where for p in problems][-1] == where
    assert problems[-1].what == "profile 'janitza_umg96rm' measures a node, 'c1' is a cdu"
    # the node is now without a meter, but its only child has one: no problem
    assert len(problems) == 1


def test_a_valve_is_no_meter(folder: Path) -> None:
    edit_cell(folder, "devices", "w1a", "profile", "belimo_ev200")
    (problem,) = check_path(folder, profiles())
    assert problem.what == "profile 'belimo_ev200' is a valve and stands at a cdu or loop, 'w1a' is a node"


def test_a_device_set_to_another_word_order_is_no_problem(folder: Path) -> None:
    edit_cell(folder, "devices", "w1a", "profile", "janitza_umg96rm@lo-hi")
    assert check_path(folder, profiles()) == []
    edit_cell(folder, "devices", "w1a", "profile", "janitza_umg96rm@lo")
    assert "janitza_umg96rm@lo" in only(folder).what


def test_wrong_protocol(folder: Path) -> None:
    where = edit_cell(folder, "devices", "pump1", "profile", "janitza_umg96rm")
    assert only(folder) == Problem(
        where,
        "protocol is dsx, profile 'janitza_umg96rm' speaks modbus",
        "Use the profile's protocol or another profile",
    )


def test_measures_nothing_known(folder: Path) -> None:
    where = edit_cell(folder, "devices", "w1a", "measures", "w1aa")
    assert only(folder) == Problem(where, "measures 'w1aa' is not in the site's tables", "Did you mean 'w1a'?")


def test_node_without_meter(folder: Path) -> None:
    drop_rows(folder, "devices", "r1a")
    problem = only(folder)
    assert problem.what == "pdu 'r1a' carries racks and has no meter"
    drop_rows(folder, "devices", "w1a")  # neither the busway nor its only child
    assert [p.what for p in check_path(folder, profiles())] == [
        "busway 'w1a' carries racks and has no meter",
        "pdu 'r1a' carries racks and has no meter",
    ]


@pytest.mark.parametrize("name", ["c1", "pump1", "loop1", "bess1"])
def test_nothing_reports(folder: Path, name: str) -> None:
    drop_rows(folder, "devices", name)
    assert only(folder).what == f"nothing reports on '{name}'"


def test_two_gateways_at_one_address(folder: Path) -> None:
    where = edit_cell(folder, "gateways", "gwb", "host", "127.210.0.1")
    problems = check_path(folder, profiles())
    assert problems[0] == Problem(
        where,
        "127.210.0.1:15020 is also gateway 'gwa'",
        "One connection per host:port: put all units behind one gateway",
    )
    assert [p.what for p in problems[1:]] == [f"unit {i} at 127.210.0.1:15020 is also 'r{i}a'" for i in (1, 2, 3, 4)]


def test_device_at_a_gateways_address(folder: Path) -> None:
    edit_cell(folder, "devices", "c1", "port", "15020")
    edit_cell(folder, "devices", "c1", "unit", "9")
    where = edit_cell(folder, "devices", "c1", "host", "127.210.0.1")
    assert only(folder) == Problem(
        where, "127.210.0.1:15020 is a gateway", "Name gateway 'gwa' instead of the host: it is one connection"
    )


def test_pumps_and_heat_rejection(folder: Path) -> None:
    edit_cell(folder, "cooling", "pump1", "capacity", "100")
    assert only(folder).what == "the duty pumps of loop 'loop1' move 250 L/min, its flow_lpm is 300"
    assert only(folder).where == "loops.csv:2"


def test_loop_without_heat_rejection(folder: Path) -> None:
    drop_rows(folder, "cooling", "dry1", "chiller1")
    drop_rows(folder, "devices", "dry1", "chiller1")
    assert only(folder).what == "nothing takes the heat out of loop 'loop1'"


def test_loop_too_small(folder: Path) -> None:
    where = edit_cell(folder, "loops", "loop1", "flow_lpm", "200")
    problem = only(folder)
    assert problem.where == where
    assert problem.what == "safe caps give loop 'loop1' 244.80 kW of heat, its flow carries at 16 K 223.04 kW"


def test_loop_units_too_small(folder: Path) -> None:
    edit_cell(folder, "cooling", "dry1", "capacity", "170000")
    problem = only(folder)
    assert problem.what == "safe caps give loop 'loop1' 244.80 kW of heat, its units reject 230.00 kW"


def test_return_not_above_supply(folder: Path) -> None:
    where = edit_cell(folder, "loops", "loop1", "return_max_c", "36")
    assert only(folder) == Problem(
        where, "return_max_c is 36 C, supply_c 36 C", "The return must be allowed to be warmer than the supply"
    )


def test_envelope_too_small(folder: Path) -> None:
    where = edit_yaml(folder, "envelope_w: 330000", "envelope_w: 200000")
    problems = check_path(folder, profiles())
    assert [p.where for p in problems] == [where, where]
    assert problems[0].what.startswith("floors with losses, loads and cooling need 2")
    assert problems[1].what.startswith("safe caps with losses, loads and cooling need 2")
    assert "the envelope is 200.00 kW" in problems[0].what


@pytest.mark.parametrize(
    ("rating", "what"),
    [
        ("80", "safe caps on pdu 'r1a' need 61.20 kW when the other cords are lost, it may carry 43.70 kW"),
        ("40", "floors below pdu 'r1a' need 22.40 kW, it may carry 21.85 kW"),
    ],
)
def test_pdu_too_small(folder: Path, rating: str, what: str) -> None:
    where = edit_cell(folder, "nodes", "r1a", "rating", rating)
    problems = check_path(folder, profiles())
    assert {p.where for p in problems} == {where}
    assert len(problems) == 2  # floors and safe caps
    assert what in [p.what for p in problems]


def test_busway_too_small_for_one_cord(folder: Path) -> None:
    where = edit_cell(folder, "nodes", "w1a", "rating", "110")
    problem = only(folder)
    assert problem.where == where
    assert problem.what.startswith("safe caps on busway 'w1a' need 61.20 kW when the other cords are lost")


def test_feed_too_small_in_native_unit(folder: Path) -> None:
    edit_cell(folder, "nodes", "u1", "rating_unit", "W")
    edit_cell(folder, "nodes", "u1", "rating", "60000")
    problem = only(folder)
    # half of racks 1 and 3 and a network load, over the busways' 0.997
    assert problem.what == f"safe caps below ups 'u1' need {(61.2 / 0.997 + 1):.2f} kW, it may carry 60.00 kW"


def test_register_too_small(folder: Path) -> None:
    edit_yaml(folder, "register_max_w: 655350", "register_max_w: 65535")
    problems = check_path(folder, profiles())
    assert [p.where for p in problems] == [f"racks.csv:{i}" for i in (2, 3, 4, 5)]
    assert {p.what for p in problems} == {"max_w 81600 does not fit actuator 'inband', which ends at 65535 W"}


def test_register_too_coarse(folder: Path) -> None:
    edit_yaml(folder, "resolution_w: 10", "resolution_w: 1000")
    problems = check_path(folder, profiles())
    assert {p.what for p in problems} == {"actuator 'inband' has steps of 1000 W over 36800 W"}


def test_safe_cap_lost_by_rounding(folder: Path) -> None:
    where = edit_cell(folder, "racks", "r1", "safe_cap_w", "44800")
    edit_yaml(folder, "resolution_w: 10", "resolution_w: 60")
    problem = only(folder)
    assert problem.where == where
    assert problem.what == "safe_cap_w 44800, rounded down to steps of 60 W, is below floor_w 44800"


def test_controllers_without_feed(folder: Path) -> None:
    path = folder / "site.yaml"
    path.write_text(path.read_text().replace("  fed_from:\n  - u1\n  - u2\n", "", 1))
    assert only(folder).where == yaml_line(folder, "control:")
    assert only(folder).what == "control names no feed"


def test_controllers_on_unknown_feed(folder: Path) -> None:
    edit_yaml(folder, "  fed_from:\n  - u1\n", "  fed_from:\n  - sub11\n")
    assert only(folder) == Problem(
        yaml_line(folder, "fed_from"), "control: fed_from 'sub11' is not in nodes.csv", "Did you mean 'sub1'?"
    )


def test_everything_in_one_run(folder: Path) -> None:
    """Mistakes of reading, of names and of figures appear together, by file and line, without echoes."""
    where = {
        edit_yaml(folder, "envelope_w: 330000", "envelope_w: 100000"),
        edit_cell(folder, "racks", "r1", "max_w", "much"),
        edit_cell(folder, "cdus", "c2", "loop", "lop1"),
        edit_cell(folder, "devices", "r2a", "profile", "raritan"),
        edit_cell(folder, "nodes", "w3a", "rating", "-4"),  # r3a's parent: named, but not unknown
    }
    problems = check_path(folder, profiles())
    assert {p.where for p in problems} == where
    assert [p.file for p in problems] == sorted([p.file for p in problems], key=FILES.index)


FILES = ["site.yaml", "nodes.csv", "racks.csv", "cdus.csv", "devices.csv"]


def test_unknown_site() -> None:
    with pytest.raises(SiteError, match="Did you mean 'colossus'"):
        check_path("colosus", profiles())


def test_names_that_end_in_paths_topics_and_sockets_must_fit(folder: Path) -> None:
    where = edit_yaml(folder, "name: tiny", "name: ../../etc")
    (problem,) = check_path(folder, profiles())
    assert where == f"{problem.file}:{problem.line}"
    assert "cannot name the state directory" in problem.what
    edit_yaml(folder, "name: ../../etc", "name: tiny")
    device = next(d for d in tiny_site().devices if d.host)
    edit_cell(folder, "devices", device.id, "host", "999.1.1.1")
    (problem,) = check_path(folder, profiles())
    assert "host '999.1.1.1' is neither" in problem.what


@pytest.mark.parametrize(
    ("row", "column", "says"),
    [
        ("feed1", "serial", "profile 'schneider_pm5560' cannot be asked for a serial"),
        ("loop1", "vendor", "is on MQTT, where no device can be asked who it is"),
        ("feed1", "vendor", ""),
        ("bess1", "serial", ""),
    ],
)
def test_who_a_device_is_can_be_asked_of_it(folder: Path, row: str, column: str, says: str) -> None:
    at = edit_cell(folder, "devices", row, column, "X")
    if not says:
        assert check_path(folder, profiles()) == []
        return
    problem = only(folder)
    assert problem.where == at
    assert says in problem.what


@pytest.mark.parametrize("key", sorted(Control.model_fields))
def test_a_bad_value_in_site_yaml_hides_nothing_and_brings_no_second_mistake(folder: Path, key: str) -> None:
    path = folder / "site.yaml"
    head = yaml.safe_load(path.read_text())
    head["control"][key] = {"no": "such"}
    path.write_text(yaml.safe_dump(head, sort_keys=False))
    link = edit_cell(folder, "racks", "r1", "cdu", "c9")
    first, second = check_path(folder, profiles())
    assert first.where.startswith("site.yaml:")
    assert first.what.startswith(f"control: {key} is ")
    assert (second.where, second.what) == (link, "cdu 'c9' is not in cdus.csv")


@pytest.mark.parametrize("text", ["name: tiny\nname: x\n", "[", "control: 5\nmqtt: 7\nactuators: {}\n", "\xff"])
def test_links_are_checked_whatever_is_wrong_with_site_yaml(folder: Path, text: str) -> None:
    (folder / "site.yaml").write_text(text, encoding="latin-1")
    link = edit_cell(folder, "racks", "r1", "cdu", "c9")
    *head, last = check_path(folder, profiles())
    assert head
    assert all(p.file == "site.yaml" for p in head), head
    assert (last.where, last.what) == (link, "cdu 'c9' is not in cdus.csv")


def with_generator(kind: str = "transfer", rows: tuple[str, ...] = ("gen1",), parent: str = "") -> Site:
    """A generator that a switch of `kind` joins to a bus, and rows of generators.csv."""
    node = {"id": "gen1", "kind": "generator", "parent": parent, "rating": 4e5, "rating_unit": "VA", "volt_v": 13800}
    switch = {"id": "gts1", "kind": kind, "a": "gen1", "b": "sub1", "normal": "open", "transfer_s": 2}
    return tiny_site(
        nodes=(*tiny_site().nodes, Node.model_validate(node)),
        switches=(Switch.model_validate(switch),),
        generators=tuple(Generator(id=x, start_s=10, ramp_w_per_s=1000) for x in rows),
    )


def test_a_generator_is_a_node_a_row_and_a_switch() -> None:
    assert check_site(with_generator(), profiles()) == []
    for site, what in (
        (with_generator(kind="breaker"), "generator 'gen1' can feed nothing"),
        (with_generator(rows=()), "generator 'gen1' has no row in generators.csv"),
        (with_generator(rows=("gen1", "gen2")), "node 'gen2' is not in nodes.csv"),
        (with_generator(rows=("gen1", "u1")), "'u1' is a ups"),
        (with_generator(parent="feed1"), "generator 'gen1' has the parent 'feed1'"),
    ):
        found = [str(p) for p in check_site(site, profiles())]
        assert len(found) == 1
        assert what in found[0]


def test_nothing_hangs_on_a_generator_as_a_rule() -> None:
    site = with_generator()
    nodes = tuple(n.model_copy(update={"parent": "gen1"}) if n.id == "msa" else n for n in site.nodes)
    (found,) = check_site(site.model_copy(update={"nodes": nodes}), profiles())
    assert "switchboard 'msa' hangs on the generator 'gen1'" in found.what
