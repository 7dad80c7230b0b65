"""The reference sites: counts, powers worked out here from the tables, and the files as the generator writes them."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache
from ipaddress import ip_address
from pathlib import Path

import numpy as np
import pytest

from drivers.check import check_path
from drivers.lease import Holder
from drivers.profile import load_profiles
from drivers.site import sums
from drivers.site.load import EMBEDDED, load_site, resolve_site
from drivers.site.model import Node, Rack, Site
from drivers.site.reference import SITES
from drivers.site.reference_parts import spread
from drivers.site.write import site_files

BOTH = sorted(SITES)


@cache
def made(name: str) -> Site:
    return SITES[name]()


def loads_w(site: Site, rack_w: Callable[[Rack], float], lost: frozenset[str] = frozenset()) -> dict[str, float]:
    """Load at each node's output [W], top down by recursion; racks of a lost node are wholly on their other cord."""
    own: dict[str, float] = defaultdict(float)
    for r in site.racks:
        a, b = (bool(lost & set(site.ancestors(p))) for p in (r.pdu_a, r.pdu_b))
        share_a = r.share_a if a == b else float(b)
        own[r.pdu_a] += rack_w(r) * share_a
        own[r.pdu_b] += rack_w(r) * (1 - share_a)
    for load in site.loads:
        own[load.node] += load.power_w
    for unit in site.cooling:
        if not unit.standby:
            own[unit.fed_from[0]] += unit.power_w
    for cdu in site.cdus:
        for feed in cdu.fed_from if cdu.kind == "row" else ():
            own[feed] += cdu.pump_w / len(cdu.fed_from)
    children: dict[str, list[Node]] = defaultdict(list)
    for n in site.nodes:
        children[n.parent].append(n)
    total: dict[str, float] = {}

    def add_up(n: Node) -> float:
        total[n.id] = own[n.id] + sum(add_up(child) / child.efficiency for child in children[n.id])
        return total[n.id]

    for root in children[""]:
        add_up(root)
    return total


def rated_w(n: Node, power_factor: float) -> float:
    if n.rating_unit == "VA":
        return n.rating * n.derating * power_factor
    assert n.rating_unit == "A"
    return math.sqrt(3) * n.volt_v * n.rating * n.derating * power_factor


def feeds_w(site: Site, rack_w: Callable[[Rack], float]) -> list[float]:
    loads = loads_w(site, rack_w)
    return [loads["feed1"], loads["feed2"]]


@pytest.mark.parametrize("name", BOTH)
def test_files_are_what_the_generator_writes(name: str) -> None:
    folder = EMBEDDED / name
    assert {p.name: p.read_text() for p in folder.iterdir()} == site_files(made(name))


@pytest.mark.parametrize("name", BOTH)
def test_files_read_back_equal(name: str) -> None:
    assert load_site(EMBEDDED / name).model_copy(update={"where": {}}) == made(name)


def test_counts_of_colossus() -> None:
    site = made("colossus")
    gpus = Counter[str]()
    for r in site.racks:
        gpus[r.gpu_model] += r.gpus
    assert gpus == {"H100": 190_000, "GB200": 30_000}
    assert Counter(r.gpu_model for r in site.racks) == {"H100": 2969, "GB200": 417}
    kinds = Counter(n.kind for n in site.nodes)
    assert kinds == {
        "utility_feed": 2,
        "generator": 2,
        "substation": 2,
        "transformer": 160 + 16,
        "ups": 160,
        "switchboard": 16,
        "busway": 480,
        "pdu": 6772,
    }
    assert len(site.gateways) == 200
    per_gateway = Counter(d.gateway for d in site.devices if d.gateway)
    assert (min(per_gateway.values()), max(per_gateway.values())) == (33, 35)
    assert sum(per_gateway.values()) == 6772
    assert Counter(c.kind for c in site.cdus) == {"in_rack": 2969, "row": 80}
    own = [d for d in site.devices if d.protocol == "modbus_tcp" and not d.gateway]
    assert len(own) == 838 + 3049 + 2
    assert sum(s.power_w for s in site.storage) == 150e6
    assert sum(s.energy_wh for s in site.storage) == 800e6
    assert len(site.lease_groups) == 80
    assert max(len(m) for m in site.lease_groups.values()) <= 64


def test_powers_of_colossus() -> None:
    site = made("colossus")
    assert sum(r.max_w for r in site.racks) == pytest.approx(297.25e6)
    nameplate = feeds_w(site, lambda r: r.max_w)
    assert sum(nameplate) == pytest.approx(327e6, rel=0.003)
    assert nameplate[0] == pytest.approx(nameplate[1], rel=0.002)
    assert sum(feeds_w(site, lambda r: r.safe_cap_w)) == pytest.approx(249e6, rel=0.01)
    assert sum(feeds_w(site, lambda r: r.floor_w)) == pytest.approx(178.5e6, rel=0.01)
    heat_w = sum(r.max_w for r in site.racks)
    cooling_w = sum(u.power_w for u in site.cooling if not u.standby)
    assert 0.035 < cooling_w / heat_w < 0.045


@pytest.mark.parametrize("name", BOTH)
def test_nameplate_is_nine_percent_above_the_envelope(name: str) -> None:
    site = made(name)
    assert sum(feeds_w(site, lambda r: r.max_w)) / site.control.envelope_w == pytest.approx(1.09, abs=0.005)


@pytest.mark.parametrize("name", BOTH)
def test_only_the_envelope_binds_at_full_load(name: str) -> None:
    """Every rack lowered alike until the site is at its envelope: no node reaches its rating."""
    site = made(name)
    full, floor = sum(feeds_w(site, lambda r: r.max_w)), sum(feeds_w(site, lambda r: r.floor_w))
    level = (site.control.envelope_w - floor) / (full - floor)
    loads = loads_w(site, lambda r: r.floor_w + level * (r.max_w - r.floor_w))
    assert loads["feed1"] + loads["feed2"] == pytest.approx(site.control.envelope_w)
    pf = site.control.power_factor_worst
    used = {n.id: loads[n.id] / rated_w(n, pf) for n in site.nodes}
    assert max(used.values()) < 0.99, max(used, key=lambda i: used[i])


@pytest.mark.parametrize("name", BOTH)
def test_the_end_of_every_lease_is_inside_the_ramp(name: str) -> None:
    """All leases end at once while the racks, alike, fill the envelope; agents fall at the pace they drew."""
    site = made(name)
    top_w, safe_w = (np.array([getattr(r, key) for r in site.racks]) for key in ("max_w", "safe_cap_w"))
    ramp_w_per_s, decay_s = site.control.ramp_down_w_per_s, site.control.lease_decay_s
    assert top_w.sum() - safe_w.sum() <= ramp_w_per_s * decay_s
    full, safe = sum(feeds_w(site, lambda r: r.max_w)), sum(feeds_w(site, lambda r: r.safe_cap_w))
    level = (site.control.envelope_w - safe) / (full - safe)
    holder = Holder(safe_w.astype(np.int64), 0.0, seed=1)
    holder.cap_w = (safe_w + level * (top_w - safe_w)).astype(np.int64)
    holder.expiry_s[:], holder.decay_s[:] = 10.0, decay_s
    racks_w = np.array([holder.step(float(t)).sum() for t in range(round(decay_s) + 20)])
    meters_w = (racks_w - safe_w.sum()) * (full - safe) / (top_w.sum() - safe_w.sum())
    assert meters_w[10] == pytest.approx(site.control.envelope_w - safe, rel=1e-3)
    assert meters_w[-1] == pytest.approx(0.0, abs=len(site.racks))
    assert 0.5 * ramp_w_per_s < -np.diff(meters_w).min() <= ramp_w_per_s


@pytest.mark.parametrize("name", BOTH)
def test_loops_carry_and_reject_nameplate_heat(name: str) -> None:
    """Without the standby units, and with a tenth to spare for pumps and for warmer air than designed."""
    site = made(name)
    loop_of = {c.id: c.loop for c in site.cdus}
    heat_w, able_w = Counter[str](), Counter[str]()
    for r in site.racks:
        heat_w[loop_of[r.cdu]] += round(r.max_w)
    for u in site.cooling:
        able_w[u.loop] += round(u.capacity) if u.kind != "pump" and not u.standby else 0
    for loop in site.loops:
        assert able_w[loop.id] > 1.1 * heat_w[loop.id]
        assert heat_w[loop.id] / (loop.flow_lpm * 69.7) < 13  # kelvin


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("cord", [0, 1])
def test_three_ups_carry_a_block_of_four(name: str, cord: int) -> None:
    """At the envelope, the loss of a UPS overloads none of its block; the worst block is tried."""
    site = made(name)
    level = site.control.envelope_w / sum(feeds_w(site, lambda r: r.max_w))
    block = max(
        {r.row[: r.row.index("r")] for r in site.racks},
        key=lambda b: sum(r.max_w for r in site.racks if r.row.startswith(b)),
    )
    loads = loads_w(site, lambda r: level * r.max_w, frozenset({f"{block}u{1 + cord}"}))
    for n in site.nodes:
        if n.kind == "ups" and n.id.startswith(block) and n.id != f"{block}u{1 + cord}":
            assert loads[n.id] < rated_w(n, site.control.power_factor_worst), n.id


def test_the_check_counts_as_this_test_does() -> None:
    """drivers.site.sums and the recursion here are two ways to the same loads."""
    site = made("hall")
    mine, theirs = loads_w(site, lambda r: r.max_w), sums.node_loads(site, lambda r: r.max_w)
    assert theirs == pytest.approx(mine)
    assert sums.site_w(site, lambda r: r.max_w) == pytest.approx(mine["feed1"] + mine["feed2"])


@pytest.mark.parametrize("name", BOTH)
def test_cords_come_from_two_ups_and_two_gateways(name: str) -> None:
    site = made(name)
    gateway = {d.measures: d.gateway for d in site.devices}
    for r in site.racks:
        a, b = site.ancestors(r.pdu_a), site.ancestors(r.pdu_b)
        assert [site.nodes[site.node_index[n]].kind for n in a] == [
            "pdu", "busway", "ups", "transformer", "substation", "utility_feed",
        ]  # fmt: skip
        assert a[2] != b[2]
        assert gateway[r.pdu_a] != gateway[r.pdu_b]


def test_jobs_of_colossus() -> None:
    site = made("colossus")
    racks: dict[str, list[Rack]] = defaultdict(list)
    for r in site.racks:
        racks[r.job].append(r)
    assert set(racks) == {j.id for j in site.jobs}
    big = racks["frontier-50k"]
    assert 50_000 <= sum(r.gpus for r in big) < 50_064
    assert {r.priority for r in big} == {1}
    for members in racks.values():
        assert len({r.hall for r in members}) > 1
        assert len({(r.gpu_model, r.priority) for r in members}) == 1


def test_addresses_are_loopback_and_apart() -> None:
    hosts = [(g.host, g.port) for name in BOTH for g in made(name).gateways]
    hosts += [(d.host, d.port) for name in BOTH for d in made(name).devices if d.host]
    assert len(set(hosts)) == len(hosts)
    assert all(ip_address(host).is_loopback and 15020 <= port <= 15023 for host, port in hosts)


def test_spread_is_even_and_complete() -> None:
    assert sum(spread(2969, 240)) == 2969
    assert set(spread(2969, 240)) == {12, 13}
    assert spread(2, 4) == (0, 1, 0, 1)


def test_sites_are_small_enough_for_git() -> None:
    for name in BOTH:
        files: list[Path] = list((EMBEDDED / name).iterdir())
        assert sum(f.stat().st_size for f in files) < 2.5e6


@pytest.mark.parametrize("name", BOTH)
def test_the_check_finds_nothing(name: str) -> None:
    assert check_path(name, load_profiles()) == []


@pytest.mark.parametrize("name", ["colossus", "hall"])
def test_whatever_may_be_lost_with_many_racks_is_read_four_times_a_second(name: str) -> None:
    """UPS and breakers by their meters; pumps push their state over the bus. A busway is a row, read each second."""
    site = resolve_site(name)
    kind = {n.id: n.kind for n in site.nodes}
    pumps = {u.id for u in site.cooling if u.kind == "pump"}
    fast = {"utility_feed", "substation", "transformer", "ups", "switchboard"}
    seen = set()
    for d in site.devices:
        if kind.get(d.measures) in fast and d.protocol == "modbus_tcp":
            assert d.period_s <= 0.25, d.id
            seen.add(kind[d.measures])
        assert d.measures not in pumps or d.protocol == "dsx"
    assert {"ups", "switchboard"} <= seen
