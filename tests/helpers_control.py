"""A small site and its Image from plain numbers, for tests of one controller stage at a time.

The electrical truth is walked node by node here, apart from the controller's matrix and the plant's physics.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np

from controller.frames import Floats, Image, Mode, Proposal, Reason
from controller.plan import Plan, compile_plan
from drivers.inventory import Inventory, compile_inventory
from drivers.points import Quality
from drivers.profile import Profile, load_profiles
from drivers.site.model import Actuator, Cdu, Control, CoolingUnit, Device, Job, Loop, Node, Rack, Site

METER = {"utility_feed": "schneider_pm5560", "pdu": "raritan_px_xerus"}  # every other node: Janitza
VOLT_V = 400.0
PF = 0.97


@dataclass(frozen=True)
class Wiring:
    """A small site: `ups` gives (feed, rating, unit) of each UPS, `cords` the UPS of each rack's A and B cord.

    A rack in `behind_busway` has a busway (800 A) between its PDUs and the UPS, so branches differ in depth.
    """

    ups: tuple[tuple[int, float, str], ...] = ((0, 400e3, "VA"), (0, 400e3, "VA"))
    cords: tuple[tuple[int, int], ...] = ((0, 1), (0, 1), (0, 1), (0, 1))
    share_a: tuple[float, ...] = ()  # 0.5 where not given
    behind_busway: frozenset[int] = frozenset()
    gangs: tuple[int, ...] = ()  # job of each rack; none where not given
    priority: tuple[int, ...] = ()
    floor_w: float = 40e3
    max_w: float = 80e3
    safe_cap_w: float = 60e3
    envelope_w: float = 1e6
    ramp_w_per_s: float = 1e9
    cdu_w: float = 80e3
    loop_lpm: float = 3000.0
    ttl_s: float = 10.0
    groups: int = 2
    reaction_s: float = 1.1  # latency 0.2 + 3 x settling

    def site(self) -> Site:
        """The site of this wiring."""
        nodes, racks = self._nodes(), self._racks()
        pump = {"id": "pump0", "kind": "pump", "loop": "loop0", "capacity": self.loop_lpm, "power_w": 500}
        dry = {"id": "dry0", "kind": "dry_cooler", "loop": "loop0", "capacity": 1e6, "power_w": 6e3}
        settle_s = (self.reaction_s - 0.2) / 3.0
        return Site(
            name="small",
            title="A small site",
            control=Control(
                envelope_w=self.envelope_w,
                ramp_up_w_per_s=self.ramp_w_per_s,
                ramp_down_w_per_s=self.ramp_w_per_s,
                lease_ttl_s=self.ttl_s,
            ),
            actuators={"inband": Actuator(latency_s=0.2, settle_s=settle_s, resolution_w=10)},
            nodes=nodes,
            racks=racks,
            jobs=tuple(Job(id=f"job{g}", kind="training") for g in sorted(set(self.gangs))),
            cdus=tuple(
                Cdu(
                    id=f"c{i}",
                    kind="in_rack",
                    loop="loop0",
                    capacity_w=self.cdu_w,
                    flow_lpm=90,
                    supply_c=40,
                    pump_w=400,
                    fed_from=(f"p{i}a", f"p{i}b"),
                )
                for i in range(len(racks))
            ),
            loops=(Loop(id="loop0", supply_c=36, return_max_c=52, flow_lpm=self.loop_lpm, volume_l=900),),
            cooling=tuple(CoolingUnit.model_validate({**u, "fed_from": "u0"}) for u in (pump, dry)),
            devices=_devices(nodes, len(racks)),
        )

    def _nodes(self) -> tuple[Node, ...]:
        rows = [(f"feed{f}", "utility_feed", "", 2e6, "VA", 1.0) for f in sorted({f for f, *_ in self.ups})]
        rows += [(f"u{i}", "ups", f"feed{f}", rating, unit, 0.96) for i, (f, rating, unit) in enumerate(self.ups)]
        for i, pair in enumerate(self.cords):
            for cord, at in zip("ab", pair, strict=True):
                above = f"u{at}"
                if i in self.behind_busway:
                    rows.append((f"w{i}{cord}", "busway", above, 800.0, "A", 0.99))
                    above = f"w{i}{cord}"
                rows.append((f"p{i}{cord}", "pdu", above, 200.0, "A", 1.0))
        keys = ("id", "kind", "parent", "rating", "rating_unit", "efficiency")
        return tuple(Node.model_validate(dict(zip(keys, row, strict=True)) | {"volt_v": VOLT_V}) for row in rows)

    def _racks(self) -> tuple[Rack, ...]:
        n = len(self.cords)
        return tuple(
            Rack(
                id=f"r{i}",
                hall="h",
                row="r",
                lease_group=f"g{i % self.groups}",
                gpu_model="H100",
                gpus=64,
                other_w=0.25 * self.max_w,
                idle_w=0.25 * self.max_w,
                floor_w=self.floor_w,
                max_w=self.max_w,
                safe_cap_w=self.safe_cap_w,
                priority=self.priority[i] if self.priority else 0,
                job=f"job{self.gangs[i]}" if self.gangs else "",
                pdu_a=f"p{i}a",
                pdu_b=f"p{i}b",
                share_a=self.share_a[i] if self.share_a else 0.5,
                cdu=f"c{i}",
                liquid_share=0.8,
            )
            for i in range(n)
        )


def _devices(nodes: Sequence[Node], racks: int) -> tuple[Device, ...]:
    rows = [(n.id, METER.get(n.kind, "janitza_umg96rm"), "modbus_tcp") for n in nodes]
    rows += [(f"c{i}", "delta_rpu_orv3", "modbus_tcp") for i in range(racks)]
    rows += [("loop0", "dsx_loop", "dsx"), ("pump0", "dsx_pump", "dsx")]
    return tuple(
        Device.model_validate({"id": name, "profile": profile, "protocol": protocol, "measures": name})
        for name, profile, protocol in rows
    )


@cache
def profiles() -> Mapping[str, Profile]:
    """The shipped profiles, read once."""
    return load_profiles()


@dataclass(frozen=True)
class Bench:
    """A site with its plan, and readings of it."""

    site: Site
    inventory: Inventory
    plan: Plan

    @property
    def racks(self) -> int:
        """Number of racks."""
        return len(self.site.racks)

    @cached_property
    def slots(self) -> dict[tuple[str, str], int]:
        """(device, point) -> slot; racks' agents stand under the rack's id."""
        found = {}
        for slab in self.inventory.slabs:
            names = [d.id for d in slab.devices] or [r.id for r in self.site.racks]
            for i, name in enumerate(names):
                for j, point in enumerate(slab.points):
                    found[name, point] = slab.start + i * len(slab.points) + j
        return found

    def node_w(self, rack_w: Floats, other_w: Mapping[str, float] | None = None) -> dict[str, float]:
        """Power at the output of each node, from racks [W] and loads at nodes, walked from the leaves to the feeds."""
        out = {n.id: 0.0 for n in self.site.nodes} | dict(other_w or {})
        for rack, watts in zip(self.site.racks, rack_w, strict=True):
            out[rack.pdu_a] += float(watts) * rack.share_a
            out[rack.pdu_b] += float(watts) * (1.0 - rack.share_a)
        for node in sorted(self.site.nodes, key=lambda n: -len(self.site.ancestors(n.id))):
            if node.parent:
                out[node.parent] += out[node.id] / node.efficiency
        return out

    def values(
        self,
        rack_w: Floats,
        cap_w: Floats,
        other_w: Mapping[str, float] | None = None,
        *,
        pf: float = PF,
        unbalance: float = 1.0,
    ) -> Floats:
        """What every instrument shows when racks draw `rack_w` [W] under caps `cap_w` [W]; shape [P]."""
        value = np.zeros(self.inventory.size)
        for name, watts in self.node_w(rack_w, other_w).items():
            amps = watts / (np.sqrt(3.0) * VOLT_V * pf)
            shown = {"power_w": watts, "apparent_va": watts / pf, "current_a": amps, "volt_v": VOLT_V}
            shown |= {"volt_l12_v": VOLT_V, "volt_l1_v": VOLT_V / np.sqrt(3.0)}
            low = amps * (3.0 - unbalance) / 2.0  # the mean stays `amps`
            shown |= {"current_l1_a": amps * unbalance, "current_l2_a": low, "current_l3_a": low}
            self.put(value, name, shown)
        for i, rack in enumerate(self.site.racks):
            self.put(value, rack.id, {"power_w": rack_w[i], "cap_w": cap_w[i], "epoch": 1, "seq": 1, "beat": 1})
            self.put(value, f"c{i}", {"flow_lpm": 90, "supply_c": 40, "return_c": 48, "pump_pct": 80, "power_w": 0})
        self.put(value, "loop0", {"supply_c": 36, "return_c": 46, "flow_lpm": 2000})
        self.put(value, "pump0", {"running": 1, "available": 1})
        return value

    def put(self, value: Floats, device: str, shown: Mapping[str, float]) -> None:
        """Write the points that `device` has."""
        for point, x in shown.items():
            if (device, point) in self.slots:
                value[self.slots[device, point]] = x

    def image(
        self,
        value: Floats,
        *,
        charge_w: Floats | None = None,
        bad: Sequence[tuple[str, str]] = (),
        quality: Quality = Quality.STALE,
        now_s: float = 1000.0,
        cycle: int = 0,
    ) -> Image:
        """The process image of `value`; points in `bad` (device, point) have `quality` and age 60 s.

        A rack is charged its cap or its power, whichever is higher, unless `charge_w` [R] says otherwise.
        """
        value = value.copy()
        codes, age_s = np.zeros(len(value), dtype=np.uint8), np.full(len(value), 0.3)
        at = np.array([self.slots[x] for x in bad], dtype=np.int64)
        codes[at], age_s[at] = quality, np.inf if quality == Quality.NEVER else 60.0
        codes[np.isnan(value) & (codes == Quality.GOOD)] = Quality.BAD  # as drivers.points.PointTable does
        cords = np.array([[self.slots[r.pdu_a, "power_w"], self.slots[r.pdu_b, "power_w"]] for r in self.site.racks])
        pumps = np.array([self.slots[r.cdu, "power_w"] for r in self.site.racks])
        fresh = (codes[cords] == Quality.GOOD).all(axis=1)
        with np.errstate(invalid="ignore"):
            drawn = value[cords].sum(axis=1) - np.where(codes[pumps] == Quality.GOOD, value[pumps], 0.0)
        metered_w = np.where(fresh, np.maximum(drawn, 0.0), np.nan)
        if charge_w is None:
            cap_w = value[[self.slots[r.id, "cap_w"] for r in self.site.racks]]
            charge_w = np.fmax(cap_w, metered_w)
        for array in (value, codes, age_s):
            array.flags.writeable = False
        nodes = len(self.site.nodes)
        return Image(
            now_s, cycle, value, codes, age_s, metered_w, charge_w, self.plan.rows, self.plan.share,
            below_w=np.zeros(nodes), summed_w=np.full(nodes, np.nan), riding=np.zeros(nodes, dtype=bool),
            lost_node=np.zeros(nodes, dtype=bool), dead=np.zeros(nodes, dtype=bool),
            lost_unit=np.zeros(len(self.site.cooling), dtype=bool),
        )  # fmt: skip

    def proposal(
        self, cap_w: Floats, *, mode: Mode = Mode.LIVE, envelope_w: float | None = None, safe_w: Floats | None = None
    ) -> Proposal:
        """A proposal of caps [R] with nothing said about its reasons."""
        return Proposal(
            cap_w=cap_w,
            safe_cap_w=self.plan.safe_cap_w if safe_w is None else safe_w,
            level=np.ones(self.racks),
            reason=np.full(self.racks, Reason.FREE, dtype=np.uint8),
            row=np.full(self.racks, -1, dtype=np.int64),
            envelope_w=self.site.control.envelope_w if envelope_w is None else envelope_w,
            mode=mode,
        )


def later(image: Image, seconds: float) -> Image:
    """The same readings, taken again `seconds` later."""
    return replace(image, now_s=image.now_s + seconds, cycle=image.cycle + 1)


def bench(wiring: Wiring | None = None, site: Site | None = None) -> Bench:
    """A compiled small site."""
    site = site or (wiring or Wiring()).site()
    inventory = compile_inventory(site, profiles())
    return Bench(site, inventory, compile_plan(site, inventory))
