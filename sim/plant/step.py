"""The three parts of a step, each one call: what racks draw, where their heat goes, what that is for the grid."""

from drivers.points import Floats, Ints
from sim.plant.base import ALLOCATING, DT_S, KERNEL, Bools
from sim.plant.cdu import ask_flow, exchange
from sim.plant.crashes import follow
from sim.plant.electrical import ElecState, Flow, Paths, flow
from sim.plant.facility import reject, run_pumps
from sim.plant.gensets import Gensets, walk_in
from sim.plant.gpus import GpuState, run_gpus, settle_gpus
from sim.plant.hydraulics import PUMP, Hydraulics
from sim.plant.jobs import JobState, demand, draw, settle
from sim.plant.network import Gangs, Racks, Tree
from sim.plant.pipes import held_j, run_pipes
from sim.plant.protection import Protections, protect
from sim.plant.shedding import QUIET_STEPS, ShedState, asks, shed
from sim.plant.thermal import ThermalState, cool_racks
from sim.plant.voltage import sag


@KERNEL
def work_step(
    racks: Racks, gangs: Gangs, s: JobState, g: GpuState, shedding: ShedState, t: ThermalState, caps_w: Floats,
    history: Floats, gpu_cap_w: Ints, rungs: Ints, ignores: Bools, powered: Bools, step: int, day: float, t_s: float,
) -> None:  # fmt: skip
    """One step of work and power under caps [R] in force, GPUs' caps [R, most] (none: no columns) and rungs [R].

    `ignores` [R] obey nothing, `powered` [R] have voltage; `day` scales inference.
    """
    own = gpu_cap_w.shape[1] > 0
    settle(racks, s, caps_w, history, step % len(history), ignores)
    if shedding.quiet[0] < len(shedding.history) + QUIET_STEPS or asks(rungs):
        shed(racks, shedding, s, rungs, step, ignores)
    follow(racks, gangs, s, powered, shedding.hold_w, t_s)
    demand(racks, gangs, s, day, g.wanted)
    if own:
        settle_gpus(racks, g, caps_w, gpu_cap_w, step, ignores)
    run_gpus(racks, gangs, s, g, t.silicon_c, t.coolant_c, ignores, step, own)
    draw(racks, gangs, s, powered, shedding.hold_w, g.reach_w, t_s)


@ALLOCATING
def thermal_step(
    racks: Racks, hyd: Hydraulics, s: ThermalState, rack_w: Floats, cdu_on: Bools, unit_on: Bools,
    mixed_w: Floats, dry_c: float, wet_c: float,
) -> float:  # fmt: skip
    """One step for the heat of `rack_w` [R]; the relative error of its balance.

    `cdu_on` [C] and `unit_on` [U] have voltage; `mixed_w` [C] is scratch.
    """
    s.air_c[0], s.air_c[1] = dry_c, wet_c
    ask_flow(hyd, s)
    run_pumps(hyd, s, unit_on)
    stored = -held_j(hyd, s)
    run_pipes(hyd, s)
    stored += held_j(hyd, s)
    stored += cool_racks(racks, hyd, s, rack_w, mixed_w)
    stored += exchange(hyd, s, cdu_on, mixed_w)
    pump_w = 0.0
    for u in range(len(hyd.unit_kind)):
        if hyd.unit_kind[u] == PUMP:
            s.mix_w[hyd.unit_loop[u]] += s.unit_w[u]
            pump_w += s.unit_w[u]
    stored += reject(hyd, s, unit_on, dry_c, wet_c)
    in_w = rack_w.sum() + s.cdu_w.sum() + pump_w
    out_w = s.loop_heat_w.sum()
    return float(abs((in_w - out_w) * DT_S - stored) / (max(in_w, 1e3) * DT_S))


@ALLOCATING
def power_step(
    tree: Tree, hyd: Hydraulics, racks: Racks, s: ElecState, paths: Paths, p: Protections, gensets: Gensets,
    rack_w: Floats, t: ThermalState,
) -> tuple[Flow, int]:  # fmt: skip
    """One step of the tree under racks [R] and the water's pumps and units; its totals, and how many nodes tripped."""
    total = flow(tree, hyd, racks, s, paths, rack_w, t.cdu_w, t.unit_w)
    sag(tree, s)
    return total, protect(p, s.pull_w, s.in_service, s.heat, s.tripped) + walk_in(gensets, tree, s)
