"""The building after a loss, recomputed node by node in plain Python, and small random sites to lose things in.

The oracle shares no code with controller.contingency: it walks the site's own tables with recursion.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from hypothesis import strategies as st

from controller.contingency import Stage
from drivers.site.model import Actuator, Cdu, Control, CoolingUnit, Load, Loop, Node, Rack, Site, Switch

Loads = dict[str, float]
NODE_KINDS = {"utility_feed", "substation", "transformer", "ups", "switchboard", "busway"}


@dataclass(frozen=True)
class After:
    """A state: nodes lost, buses fed through ties, batteries empty or not, cooling units lost."""

    site: Site
    lost: frozenset[str] = frozenset()
    fed: Mapping[str, str] = field(default_factory=dict)
    drained: bool = False
    unit: str = ""

    @cached_property
    def nodes(self) -> dict[str, Node]:
        return {n.id: n for n in self.site.nodes}

    def live(self, name: str) -> bool:
        """Voltage at the output."""
        node = self.nodes[name]
        if name in self.fed:
            return self.live(self.fed[name])
        if name in self.lost:
            return False
        if not node.parent or self.live(node.parent):
            return True
        return node.kind == "ups" and not self.drained

    def path(self, name: str) -> list[str]:
        """Where a node's power comes from, up to a feed."""
        above = self.fed.get(name, self.nodes[name].parent)
        return [name, *(self.path(above) if above else [])]

    def riding(self) -> set[str]:
        """UPS on battery."""
        return {
            n.id
            for n in self.site.nodes
            if n.kind == "ups" and self.live(n.id) and n.parent and not self.live(n.parent)
        }

    def load(self, hung: Loads) -> Loads:
        """Load at every node's output from W hung on nodes; none at a dead node.

        Above a UPS on battery its load stays: it will come back.
        """
        out: Loads = {}

        def bus_w(name: str) -> float:
            watts = hung.get(name, 0.0)
            for node in self.site.nodes:
                if node.parent == name and node.id not in self.fed:
                    watts += bus_w(node.id) / node.efficiency
            watts += sum(bus_w(bus) for bus, source in self.fed.items() if source == name)
            through_tie = name in self.fed and self.nodes[name].kind in ("substation", "transformer")
            out[name] = watts if self.live(name) and not through_tie else 0.0
            return watts

        for node in self.site.nodes:
            if not node.parent and node.id not in self.fed:
                bus_w(node.id)
        return {n.id: out[n.id] for n in self.site.nodes}

    def hang_racks(self, watts: Mapping[str, float]) -> Loads:
        """W on each PDU: a rack with one dead cord hangs whole on the other."""
        hung: Loads = {}
        for rack in self.site.racks:
            cords = [(rack.pdu_a, rack.share_a), (rack.pdu_b, 1.0 - rack.share_a)]
            alive = [(pdu, share) for pdu, share in cords if self.live(pdu)]
            if len(alive) == 1:
                alive = [(alive[0][0], 1.0)]
            for pdu, share in alive:
                hung[pdu] = hung.get(pdu, 0.0) + watts[rack.id] * share
        return hung

    def running(self, unit: CoolingUnit) -> bool:
        """Duty unit with a feed, or the standby unit whose turn it is."""

        def well(u: CoolingUnit) -> bool:
            return u.id != self.unit and any(self.live(f) for f in u.fed_from)

        if not well(unit):
            return False
        if not unit.standby:
            return True
        kin = [u for u in self.site.cooling if (u.kind, u.loop) == (unit.kind, unit.loop)]
        missing = sum(1 for u in kin if not u.standby and not well(u))
        return [u.id for u in kin if u.standby and well(u)].index(unit.id) < missing

    def consumers(self) -> list[tuple[str, float, tuple[str, ...]]]:
        """(id, W, live feeds) of all that nobody caps."""
        out: list[tuple[str, float, tuple[str, ...]]] = [(x.id, x.power_w, (x.node,)) for x in self.site.loads]
        out += [(x.id, x.pump_w, x.fed_from) for x in self.site.cdus if x.id != self.unit]
        out += [(x.id, x.power_w if self.running(x) else 0.0, x.fed_from) for x in self.site.cooling]
        return [(name, watts, tuple(f for f in feeds if self.live(f))) for name, watts, feeds in out]

    def load_of(self, name: str) -> Loads:
        """Load at every node from one of them."""
        hung: Loads = {}
        for consumer, watts, feeds in self.consumers():
            if consumer == name:
                for f in feeds:
                    hung[f] = hung.get(f, 0.0) + watts / len(feeds)
        return self.load(hung)


def as_after(site: Site, lost: str, kind: str, stage: Stage) -> After:
    """The same stage for the oracle."""
    ids = [n.id for n in site.nodes]
    fed = {ids[bus]: ids[source] for bus, source in stage.fed}
    if stage.name == "source back":
        return After(site)
    if kind not in NODE_KINDS:
        return After(site, unit=lost)
    return After(site, frozenset([lost]), fed, "battery ended" in stage.name)


def timeline(site: Site, lost: str) -> list[tuple[float, After]]:
    """(seconds after the loss, state) with the ties that may close, then without; found state by state."""
    out: list[tuple[float, After]] = []
    for ties in (True, False):
        state = After(site, frozenset([lost]))
        out.append((0.0, state))
        if ties:
            state = _close(site, lost, state, 0.0, out)
        if state.riding():
            battery_s = site.control.ups_battery_s
            state = After(site, state.lost, state.fed, drained=True)
            out.append((battery_s, state))
            if ties:
                _close(site, lost, state, battery_s, out)
    return out


def _close(site: Site, lost: str, state: After, begin_s: float, out: list[tuple[float, After]]) -> After:
    kinds = {n.id: n.kind for n in site.nodes}
    ties = [s for s in site.switches if s.kind == "tie"]
    for at_s in sorted({s.transfer_s for s in ties}):
        before, more = state, True
        while more:
            more, fed = False, dict(state.fed)
            for tie in (s for s in ties if s.transfer_s <= at_s):
                for bus, source in ((tie.a, tie.b), (tie.b, tie.a)):
                    sound = bus != lost or kinds[bus] in ("substation", "transformer")
                    own = bus in After(site, fed=fed).path(source)
                    if sound and not own and bus not in fed and not state.live(bus) and state.live(source):
                        fed[bus], more = source, True
            state = After(site, state.lost, fed, state.drained)
        if state.fed != before.fed:
            out.append((begin_s + at_s, state))
    return state


@st.composite
def sites(draw: st.DrawFn) -> Site:
    """A random forest of two feeds, racks with two cords anywhere, ties, a loop, loads."""
    kinds = st.sampled_from(["substation", "transformer", "ups", "switchboard", "busway"])
    nodes = [_node("feed0", "utility_feed", ""), _node("feed1", "utility_feed", "")]
    for i in range(draw(st.integers(2, 9))):
        parent = draw(st.sampled_from(nodes)).id
        efficiency = draw(st.sampled_from([1.0, 0.99, 0.97, 0.9]))
        nodes.append(_node(f"n{i}", draw(kinds), parent, efficiency))
    above = [n.id for n in nodes]
    paths = {n.id: _path(nodes, n.id) for n in nodes}
    racks, cdus = [], []
    for i in range(draw(st.integers(1, 6))):
        nodes += [_node(f"r{i}{cord}", "pdu", draw(st.sampled_from(above))) for cord in "ab"]
        racks.append(_rack(i, draw(st.sampled_from([0.5, 0.3, 1.0])), draw(st.sampled_from(["fast", "slow"]))))
        cdus.append(_cdu(i))
    ties = []
    for i in range(draw(st.integers(0, 3))):
        a, b = draw(st.sampled_from(above)), draw(st.sampled_from(above))
        if a not in paths[b] and b not in paths[a]:
            delay_s = draw(st.sampled_from([1.0, 4.0, 10.0]))
            ties.append(Switch(id=f"tie{i}", kind="tie", a=a, b=b, normal="open", transfer_s=delay_s))
    feeds = st.lists(st.sampled_from(above), min_size=1, max_size=2, unique=True)
    units = [
        CoolingUnit(
            id=f"p{i}", kind="pump", loop="loop", capacity=100, power_w=900, standby=i > 1, fed_from=draw(feeds)
        )
        for i in range(4)
    ]
    loads = [Load(id=f"l{i}", node=draw(st.sampled_from(above)), power_w=700 + i) for i in range(2)]
    return Site(
        name="random", title="", control=Control(envelope_w=1e6, ramp_up_w_per_s=1e6, ramp_down_w_per_s=1e6),
        actuators={"fast": Actuator(latency_s=0.2, settle_s=0.3), "slow": Actuator(latency_s=5, settle_s=1)},
        nodes=tuple(nodes), racks=tuple(racks), cdus=tuple(cdus), cooling=tuple(units), loads=tuple(loads),
        loops=(Loop(id="loop", supply_c=30, return_max_c=45, flow_lpm=200, volume_l=500),),
        switches=tuple(ties), devices=(),
    )  # fmt: skip


def _node(name: str, kind: str, parent: str, efficiency: float = 1.0) -> Node:
    row = {"id": name, "kind": kind, "parent": parent, "efficiency": efficiency}
    return Node.model_validate(row | {"rating": 400e3, "rating_unit": "W", "volt_v": 415})


def _path(nodes: list[Node], name: str) -> set[str]:
    parents, path = {n.id: n.parent for n in nodes}, set()
    while name:
        path.add(name)
        name = parents[name]
    return path


def _rack(i: int, share_a: float, actuator: str) -> Rack:
    return Rack(
        id=f"r{i}", hall="h", row="r", lease_group="g", gpu_model="H100", gpus=64, other_w=20e3, idle_w=20e3,
        floor_w=45e3, max_w=80e3, safe_cap_w=60e3, pdu_a=f"r{i}a", pdu_b=f"r{i}b", share_a=share_a, cdu=f"c{i}",
        liquid_share=0.8, actuator=actuator,
    )  # fmt: skip


def _cdu(i: int) -> Cdu:
    return Cdu(
        id=f"c{i}", kind="in_rack", loop="loop", capacity_w=80e3, flow_lpm=90, supply_c=40, pump_w=400,
        fed_from=(f"r{i}a", f"r{i}b"),
    )  # fmt: skip
