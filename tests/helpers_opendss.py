"""A site's electrical tree as an OpenDSS circuit, written from the site's tables alone, and solved by OpenDSS.

A double-conversion UPS splits it: a source of its own below, a load of constant power above, whose losses are the
site's efficiency curve; what is compared is everything that has an impedance. No tap changers, balanced phases.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from dss import DSS

from drivers.site.model import Node, Site

PF = 0.98
REACTANCE = {"transformer": 0.0575, "substation": 0.08}
STIFF = "r1=1e-7 x1=1e-6 r0=1e-7 x0=1e-6"


@dataclass
class Solved:
    """What OpenDSS found, by node id."""

    volt_pu: dict[str, float] = field(default_factory=dict)
    branch_loss_w: dict[str, float] = field(default_factory=dict)
    source_w: dict[str, float] = field(default_factory=dict)
    source_var: dict[str, float] = field(default_factory=dict)


def _va(node: Node) -> float:
    if node.rating_unit == "A":
        return float(node.rating * node.volt_v * 3**0.5)
    return float(node.rating / (PF if node.rating_unit == "W" else 1.0))


def _element(site: Site, node: Node) -> str:
    """The node's own series element, from its parent's bus to its own."""
    parent = site.nodes[site.node_index[node.parent]]
    loss, va = (1.0 / node.efficiency - 1.0) * PF, _va(node)  # per unit of the rating in VA
    if node.kind in REACTANCE:
        x, kv, up = REACTANCE[node.kind], node.volt_v / 1e3, parent.volt_v / 1e3
        return (
            f"New Transformer.{node.id} phases=3 windings=2 buses=({parent.id} {node.id}) conns=(wye wye) "
            f"kvs=({up} {kv}) kvas=({va / 1e3} {va / 1e3}) xhl={100 * x} %rs=({40 * loss} {40 * loss}) "
            f"%noloadloss={20 * loss} %imag=0 ppm_antifloat=0"
        )
    ohm = max(loss, 1e-9) * node.volt_v**2 / va
    return (
        f"New Line.{node.id} phases=3 bus1={parent.id} bus2={node.id} length=1 units=none "
        f"r1={ohm} x1={ohm} r0={ohm} x0={ohm} c1=0 c0=0"
    )


def _ups_loss_w(node: Node, out_w: float) -> float:
    full_w = _va(node) * PF
    share = out_w / full_w
    return (1.0 / node.efficiency - 1.0) * full_w * (0.25 + 0.35 * share + 0.4 * share**2)


def _load(name: str, node: Node, watts: float) -> str:
    return (
        f"New Load.{name} phases=3 bus1={node.id} kv={node.volt_v / 1e3} kw={watts / 1e3} pf={PF} "
        "model=1 vminpu=0.5 vmaxpu=1.5"
    )


def _source(name: str, node: Node) -> str:
    return f"New Vsource.{name} phases=3 bus1={node.id} basekv={node.volt_v / 1e3} pu=1.0 {STIFF}"


def solve(site: Site, direct_w: Mapping[str, float], subset: set[str] | None = None) -> Solved:
    """Solve the tree, or the nodes of `subset`, with loads [W] that hang directly on nodes."""
    nodes = [n for n in site.nodes if subset is None or n.id in subset]
    dss, solved = DSS.Text, Solved()
    children: dict[str, list[Node]] = defaultdict(list)
    for n in nodes:
        children[n.parent].append(n)
    below: dict[str, float] = {}
    for root in [n for n in reversed(nodes) if n.kind == "ups"] + [n for n in nodes if n.kind == "utility_feed"]:
        dss.Command = "Clear"
        dss.Command = f"New Circuit.site phases=3 bus1={root.id} basekv={root.volt_v / 1e3} pu=1.0 {STIFF}"
        todo, here = [root], [root]
        while todo:
            n = todo.pop()
            for child in children[n.id]:
                if child.kind == "ups":
                    watts = below[child.id] + _ups_loss_w(child, below[child.id])
                    dss.Command = _load(f"in_{child.id}", n, watts)
                    continue
                dss.Command = _element(site, child)
                todo.append(child)
                here.append(child)
        for n in here:
            if direct_w.get(n.id, 0.0) > 0.0:
                dss.Command = _load(f"at_{n.id}", n, direct_w[n.id])
        dss.Command = f"Set voltagebases=[{' '.join(str(v / 1e3) for v in sorted({n.volt_v for n in here}))}]"
        dss.Command = "CalcVoltageBases"
        dss.Command = "Set tolerance=1e-9"
        dss.Command = "Set maxiterations=100"
        dss.Command = "Solve"
        _collect(here, root, solved)
        if root.kind == "ups":
            below[root.id] = solved.source_w[root.id]
    return solved


def _collect(here: list[Node], root: Node, solved: Solved) -> None:
    circuit = DSS.ActiveCircuit
    assert circuit.Solution.Converged
    for n in here:
        circuit.SetActiveBus(n.id)
        solved.volt_pu[n.id] = float(circuit.ActiveBus.puVmagAngle[0])
        if n is not root:
            kind = "Transformer" if n.kind in REACTANCE else "Line"
            circuit.SetActiveElement(f"{kind}.{n.id}")
            solved.branch_loss_w[n.id] = float(circuit.ActiveCktElement.Losses[0])
    total = circuit.TotalPower  # kW, kvar into the circuit is negative
    solved.source_w[root.id], solved.source_var[root.id] = -1e3 * float(total[0]), -1e3 * float(total[1])
