"""Site -> the plant's own index arrays. The controller compiles its own elsewhere, so that an error of one side
does not cancel itself in the other.

The tuples go straight into Numba kernels. Positions are those of the site's tables.
"""

from typing import NamedTuple

import numpy as np

from drivers.points import Floats, Ints
from drivers.site.catalog import GPUS
from drivers.site.model import Node, Site
from sim.plant.base import DT_S, POWER_FACTOR, Bools, PlantError, ints
from sim.plant.hydraulics import Hydraulics, compile_hydraulics

RACK_FLUID_TAU_S = 2.0  # FACTS P.7
DIE_K_W = 0.025  # case to junction of a die of full size: 17.5 K for a 700 W part
DIES = {"H100": 1, "H200": 1, "GB200": 2}  # of full size, a GPU's heat by halves (NVIDIA, Blackwell architecture)
PLATES = {  # by coolant, a and b of R*V = a + b V, least squares over the OCP OAI figure (FACTS P.7) [K lpm/W, K/W]
    "water": (0.00696, 0.01369),
    "pg25": (0.00839, 0.01617),
}
PLATES |= {"pg20": PLATES["pg25"], "pg40": PLATES["pg25"]}  # no figure was found for these


class Tree(NamedTuple):
    """The electrical forest. Loss of a node [W] while it is energised: of a UPS c0 + c1 |out| + c2 out^2, of the others
    c0 V^2 + r S^2 / V^2 with V per unit.
    """

    up_order: Ints  # [N] children before parents
    parent: Ints  # [N], -1 for a feed and a generator
    is_feed: Bools  # of the utility
    is_ups: Bools
    eco: Bools  # UPS on bypass while the supply is good
    c0: Floats
    c1: Floats
    c2: Floats
    r: Floats  # series impedance, per unit over its rating [1/VA]
    x: Floats
    in_amps: Bools  # rated in current
    rated_w: Floats  # at the plant's power factor
    trip_w: Floats  # derated, protection counts from here
    load_node: Ints  # [loads]
    load_w: Floats
    storage_node: Ints  # [storage]
    storage_max_w: Floats
    storage_max_j: Floats
    storage_one_way: Floats  # efficiency of one direction


class Racks(NamedTuple):
    """Racks, their cords and what a cap can do to them."""

    pdu_a: Ints  # [R] node positions
    pdu_b: Ints
    share_a: Floats
    max_w: Floats
    idle_w: Floats
    other_w: Floats
    least_w: Floats  # no cap reaches below: GPUs at their own least power
    delay_steps: Ints  # actuator latency
    settle: Floats  # share of the way to a new cap gone in one step
    resolution_w: Floats
    gpus: Ints
    gang: Ints
    cdu: Ints
    loop: Ints
    liquid_share: Floats
    flow_share: Floats  # of the CDU's flow
    silicon_j_k: Floats
    silicon_keep: Floats  # of its distance from rest after one step
    fluid_j_k: Floats
    base_k_w: Floats  # silicon to plate, whole rack
    inlet_weight: Floats  # of the coolant's own rise in the plate's reference temperature
    design_c: Floats  # silicon at nameplate with design flow and supply: powers of the site are meant there
    lean: Floats  # heat into plates at nameplate over power of GPUs


class Gangs(NamedTuple):
    """Jobs: the racks of a training job step together, those of an inference job share their load."""

    training: Bools  # [G]
    racks: Ints  # how many


# No-load, proportional and quadratic part of the loss at rating. Transformers: C57.12 practice, one fifth no-load.
# UPS: double conversion, fitted to a flat efficiency curve. Conductors: ohmic.
LOSS_PARTS = {"transformer": (0.2, 0.0, 0.8), "substation": (0.2, 0.0, 0.8), "ups": (0.25, 0.35, 0.4)}
# Series reactance, per unit on the rating. Transformers: the usual 5.75 % of the C57.12 series at 480 V and 8 % of a
# substation's; conductors: as large as their resistance.
REACTANCE = {"transformer": 0.0575, "substation": 0.08}
NO_LOSS = ("utility_feed", "generator", "pdu")  # metered at the site's edge or the set's own terminals; short cords


class Network(NamedTuple):
    """Everything the kernels index."""

    tree: Tree
    racks: Racks
    gangs: Gangs
    gang_names: tuple[str, ...]
    hydraulics: Hydraulics


def compile_network(site: Site) -> Network:
    """Compile a checked site; KeyError on a bad link or an unknown GPU model."""
    gang_of, gangs, names = _gangs(site)
    hydraulics = compile_hydraulics(site)
    return Network(_tree(site), _racks(site, gang_of, hydraulics), gangs, names, hydraulics)


def rated_w(node: Node) -> float:
    """Power that fills a node's rating at the plant's power factor [W]."""
    if node.rating_unit == "W":
        return node.rating
    if node.rating_unit == "VA":
        return node.rating * POWER_FACTOR
    return node.rating * node.volt_v * (3.0**0.5 if node.phases == 3 else 1.0) * POWER_FACTOR


def _depth(site: Site) -> Ints:
    depth = np.full(len(site.nodes), -1)
    for i in range(len(site.nodes)):
        path, j = [], i
        while j >= 0 and depth[j] < 0:
            path.append(j)
            if len(path) > len(site.nodes):
                raise PlantError(f"node {site.nodes[i].id} is its own ancestor")
            parent = site.nodes[j].parent
            j = site.node_index[parent] if parent else -1
        above = depth[j] if j >= 0 else -1
        for k, p in enumerate(reversed(path)):
            depth[p] = above + 1 + k
    return depth


def _tree(site: Site) -> Tree:
    nodes, index = site.nodes, site.node_index
    rated = np.array([rated_w(n) for n in nodes])
    parts = np.array([(0.0, 0.0, 0.0) if n.kind in NO_LOSS else LOSS_PARTS.get(n.kind, (0.0, 0.0, 1.0)) for n in nodes])
    loss_share = np.array([1.0 / n.efficiency - 1.0 for n in nodes])
    resistance = parts[:, 2] * loss_share * POWER_FACTOR
    reactance = [n.reactance if n.reactance is not None else REACTANCE.get(n.kind) for n in nodes]
    rated_va = rated / POWER_FACTOR
    return Tree(
        up_order=np.argsort(-_depth(site), kind="stable"),
        parent=np.array([index[n.parent] if n.parent else -1 for n in nodes]),
        is_feed=np.array([n.kind == "utility_feed" for n in nodes]),
        is_ups=np.array([n.kind == "ups" for n in nodes]),
        eco=np.array([n.kind == "ups" and n.eco for n in nodes]),
        c0=parts[:, 0] * loss_share * rated,
        c1=parts[:, 1] * loss_share,
        c2=parts[:, 2] * loss_share / rated,
        r=resistance / rated_va,
        x=np.array([r if x is None else x for r, x in zip(resistance, reactance, strict=True)]) / rated_va,
        in_amps=np.array([n.rating_unit == "A" for n in nodes]),
        rated_w=rated,
        trip_w=rated * np.array([n.derating for n in nodes]),
        load_node=ints(index[x.node] for x in site.loads),
        load_w=np.array([x.power_w for x in site.loads], dtype=float),
        storage_node=ints(index[x.node] for x in site.storage),
        storage_max_w=np.array([x.power_w for x in site.storage], dtype=float),
        storage_max_j=np.array([x.energy_wh * 3600.0 for x in site.storage], dtype=float),
        storage_one_way=np.array([x.round_trip**0.5 for x in site.storage], dtype=float),
    )


def _gangs(site: Site) -> tuple[Ints, Gangs, tuple[str, ...]]:
    training = {j.id for j in site.jobs if j.kind == "training"}
    index: dict[str, int] = {}
    gang = ints(index.setdefault(r.job or r.id, len(index)) for r in site.racks)
    names = tuple(index)
    return gang, Gangs(np.array([n in training for n in names]), np.bincount(gang, minlength=len(names))), names


def junction_rise_k(gpu_model: str) -> float:
    """From a GPU's case to its junction at nameplate [K]."""
    return DIE_K_W * GPUS[gpu_model].tdp_w / DIES[gpu_model]


def _racks(site: Site, gang_of: Ints, hydraulics: Hydraulics) -> Racks:
    racks, index = site.racks, site.node_index
    cdu_index = {c.id: i for i, c in enumerate(site.cdus)}
    act = [site.actuators[r.actuator] for r in racks]
    cdu = np.array([cdu_index[r.cdu] for r in racks])
    gpus = np.array([r.gpus for r in racks], dtype=float)
    other = np.array([r.other_w for r in racks])
    max_w = np.array([r.max_w for r in racks])
    heat = np.array([r.liquid_share for r in racks]) * max_w
    share = heat / np.bincount(cdu, weights=heat, minlength=len(site.cdus))[cdu]
    w_k = (hydraulics.cdu_flow_lpm * hydraulics.cdu_w_lpm_k)[cdu] * share
    floor = np.array([r.floor_w for r in racks])
    least = other + gpus * np.array([GPUS[r.gpu_model].min_cap_w for r in racks])
    tdp = gpus * np.array([GPUS[r.gpu_model].tdp_w for r in racks])
    on_gpus = np.minimum(1.0, tdp / heat)  # CPUs, switches and converters have plates of their own
    silicon_j_k = np.array([r.plate_j_per_k for r in racks]) * gpus
    slope, base = np.array([PLATES[site.cdus[c].coolant] for c in cdu]).T
    base_k_w = base * on_gpus / gpus + np.array([junction_rise_k(r.gpu_model) for r in racks]) / heat
    inlet_weight = slope * hydraulics.cdu_w_lpm_k[cdu]
    return Racks(
        pdu_a=np.array([index[r.pdu_a] for r in racks]),
        pdu_b=np.array([index[r.pdu_b] for r in racks]),
        share_a=np.array([r.share_a for r in racks]),
        max_w=max_w,
        idle_w=np.array([r.idle_w for r in racks]),
        other_w=other,
        least_w=np.minimum(least, floor),
        delay_steps=np.array([round(a.latency_s / DT_S) for a in act]),
        settle=np.array([1.0 - np.exp(-DT_S / a.settle_s) for a in act]),
        resolution_w=np.array([a.resolution_w for a in act]),
        gpus=gpus.astype(np.int64),
        gang=gang_of,
        cdu=cdu,
        loop=hydraulics.cdu_loop[cdu],
        liquid_share=np.array([r.liquid_share for r in racks]),
        flow_share=share,
        silicon_j_k=silicon_j_k,
        silicon_keep=np.exp(-DT_S / np.maximum(silicon_j_k * base_k_w, 1e-9)),
        fluid_j_k=w_k * RACK_FLUID_TAU_S,
        base_k_w=base_k_w,
        inlet_weight=inlet_weight,
        design_c=hydraulics.cdu_set_c[cdu] + heat * (inlet_weight / w_k + base_k_w),
        lean=heat / np.maximum(max_w - other, 1.0),
    )
