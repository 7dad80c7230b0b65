"""Loads after every stage of every loss, at given caps, and the rows of the survivors that they overload."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.contingency import Losses, Stage, Water
from controller.contingency.water import START_S
from controller.frames import Bools, Codes, Estimate, Floats, Ints, Limits, Rows
from controller.kernels.fill import Curve
from controller.kernels.trip import TripTable, compile_trip
from controller.plan import Plan
from controller.policies import rating
from controller.policies.grid import METER_ERROR
from controller.problem import rack_curves
from controller.shed import shed_w
from drivers.site.cooling import COOLANTS

TOLERANCE = 1e-9
SEEN_S = 10.0  # until a tie that has closed, or has not, is seen and answered
NO_FLOW_S = 25.0  # one 1.35 MW CDU with 550 kg of PG25 warms 0.6 K/s: 15 K (CONTROL.md, Limits)


@dataclass(frozen=True)
class Kit:
    """What is compiled once for a plan."""

    plan: Plan
    curves: list[Curve]
    curve_of: NDArray[np.int32]  # [R]
    priority: Ints  # [R]
    table: TripTable
    sure_w: Floats  # [N] rating at the worst voltage, power factor and unbalance that are no metering fault
    heat_case: Ints  # [H] a stage of a loss after which a loop carries less heat
    heat_stage: Ints
    heat_of: tuple[Water, ...]


@dataclass(frozen=True)
class After:
    """Loads after every stage of every loss at given caps; cells [D] as in plan.losses, heat cells [H] as in Kit."""

    losses: Losses  # at the cord shares in force
    held_w: Floats  # [R] what each rack is counted at
    load_w: Floats  # [D]
    limit_w: Floats  # [D] continuous
    heat_w: Floats  # [H]
    heat_limit_w: Floats  # [H]
    heat_deadline_s: Floats  # [H] until the loop's water is as warm as it may return; inf: never

    @property
    def over(self) -> Bools:
        """Cells whose survivor is overloaded [D]."""
        return self.load_w > self.limit_w * (1.0 + TOLERANCE)

    @property
    def hot(self) -> Bools:
        """Heat cells whose loop gets too much, sooner or later [H]."""
        return self.heat_w > self.heat_limit_w * (1.0 + TOLERANCE)


def compile_kit(plan: Plan) -> Kit:
    """Curves, classes, trip curves and heat cells of a plan."""
    curves, curve_of = rack_curves(plan)
    heat = [(c, s, w) for c, x in enumerate(plan.losses.cases) for s, stage in enumerate(x.stages) for w in stage.water]
    return Kit(
        plan=plan,
        curves=curves,
        curve_of=curve_of,
        priority=plan.gang_class[plan.gang_of],
        table=compile_trip(plan.site),
        sure_w=rating.nominal_w(plan),
        heat_case=np.array([c for c, _, _ in heat], dtype=np.int64),
        heat_stage=np.array([s for _, s, _ in heat], dtype=np.int64),
        heat_of=tuple(w for _, _, w in heat),
    )


def overloads(kit: Kit, estimate: Estimate, limits: Limits, cap_w: Floats, codes: Codes | None = None) -> After:
    """Loads after every loss, with every rack at its cap [R], or at what it is counted at.

    What has been lost already carries nothing and takes nothing over.
    """
    plan = kit.plan
    normal = np.array_equal(estimate.share, plan.share)
    losses = plan.losses if normal else plan.losses.at_shares(estimate.share)
    held_w = counted_w(kit, estimate, cap_w, codes)
    node = plan.node_row
    before_w = losses.base.dot(held_w) + np.maximum(estimate.other_w[node], 0.0)
    load_w = before_w[losses.delta_node] + losses.delta.dot(held_w) + losses.delta_moved_w
    if not normal:
        load_w = np.where(_carries(plan, losses)[losses.delta_node], load_w, 0.0)
    loop_w = loop_heat_w(plan, held_w)
    loop = np.array([w.loop for w in kit.heat_of], dtype=np.int64)
    heat_limit_w = np.minimum(np.array([w.heat_w for w in kit.heat_of]), limits.limit_w[plan.loop_row][loop])
    return After(
        losses=losses,
        held_w=held_w,
        load_w=load_w,
        limit_w=estimate.rating_w[losses.delta_node] * (1.0 - METER_ERROR),
        heat_w=loop_w[loop],
        heat_limit_w=heat_limit_w,
        heat_deadline_s=_heat_deadline_s(kit, loop_w[loop], heat_limit_w),
    )


def _carries(plan: Plan, losses: Losses) -> Bools:
    """Nodes that carry racks now, or never did [N]."""
    racked, now = (x.base.dot(np.ones(len(plan.max_w))) > 0.0 for x in (plan.losses, losses))
    return np.asarray(now | ~racked)


def loop_heat_w(plan: Plan, power_w: Floats) -> Floats:
    """Heat of each loop [W]."""
    heat_w = np.bincount(plan.loop_of, power_w, minlength=plan.loop_row.stop - plan.loop_row.start)
    return heat_w.astype(np.float64, copy=False)


def counted_w(kit: Kit, estimate: Estimate, cap_w: Floats, codes: Codes | None) -> Floats:
    """What each rack is counted at: its cap, its rung, or its own constant where no cap works [R, W]."""
    held_w = cap_w if codes is None else np.fmin(cap_w, shed_w(kit.plan, codes))
    return np.where(np.isfinite(estimate.constant_w), estimate.constant_w, held_w)


def may_come(kit: Kit, case: int, since_s: float, alive: Bools | None) -> Bools:
    """Stages of a loss to prepare for, `since_s` after it [stages]; `alive` [N] are nodes seen with voltage.

    What needs a tie that stays open is left out once its bus is alive, and before that while there is time to see it.
    """
    stages = kit.plan.losses.cases[case].stages
    act_s = float(kit.plan.losses.act_s.max()) + SEEN_S
    buses = {bus for s in stages for bus, _ in s.fed if bus in stages[0].dead}
    closed = {bus for bus in buses if alive is not None and alive[bus]}
    out = np.ones(len(stages), dtype=np.bool_)
    for i, stage in enumerate(stages):
        if stage.name == "source back":
            continue
        known_s = max((s.at_s for s in stages if s.fed and s.at_s < stage.at_s), default=np.inf)
        waits = not stage.fed and known_s + act_s < stage.at_s and since_s + act_s < stage.at_s
        out[i] = not waits and closed <= {bus for bus, _ in stage.fed}
    return out


def in_stage(stage: Stage) -> str:
    """` (tie-sub closed)`; nothing at the instant."""
    return "" if stage.name == "instant" else f" ({stage.name})"


def urgent(kit: Kit, after: After) -> Bools:
    """Hot heat cells that cannot wait for the next stage to be seen [H]: ties that close first bring units back."""
    out, act_s = after.hot, float(kit.plan.losses.act_s.max())
    for h in np.flatnonzero(out).tolist():
        stages = kit.plan.losses.cases[kit.heat_case[h]].stages
        own = stages[kit.heat_stage[h]]
        later = [s.at_s for s in stages if s.fed and s.at_s > own.at_s]
        if not own.fed and later and after.heat_deadline_s[h] > max(later) + act_s:
            out[h] = False
    return out


def survivors(
    kit: Kit, estimate: Estimate, after: After, cells: Ints, heat: Ints
) -> tuple[Rows, Floats, tuple[str, ...]]:
    """Rows of the overloaded survivors over all racks, what racks may have there, and their names."""
    plan, losses = kit.plan, kit.plan.losses
    rows = after.losses.after(cells)
    node = losses.delta_node[cells]
    room_w = after.limit_w[cells] - np.maximum(estimate.other_w[plan.node_row][node], 0.0)
    room_w = room_w - losses.delta_moved_w[cells]
    nodes = plan.site.nodes
    names = [f"{nodes[n].kind.replace('_', ' ')} {nodes[n].id}" for n in node.tolist()]
    at = zip(losses.delta_case[cells].tolist(), losses.delta_stage[cells].tolist(), strict=True)
    names = [name + in_stage(losses.cases[c].stages[s]) for name, (c, s) in zip(names, at, strict=True)]
    if len(heat):
        loops = [kit.heat_of[h].loop for h in heat]
        racks = [np.flatnonzero(plan.loop_of == k) for k in loops]
        rows = _stacked(rows, racks)
        room_w = np.concatenate([room_w, after.heat_limit_w[heat]])
        stages = [losses.cases[kit.heat_case[h]].stages[kit.heat_stage[h]] for h in heat]
        names += [f"loop {plan.site.loops[k].id}{in_stage(s)}" for k, s in zip(loops, stages, strict=True)]
    return rows, room_w, tuple(names)


def _stacked(rows: Rows, more: list[Ints]) -> Rows:
    """Rows with further ones of coefficient one."""
    size = np.array([len(x) for x in more], dtype=np.int64)
    racks = np.concatenate([rows.racks, *more])
    first = len(rows.indptr) - 1
    of_entry = np.concatenate([rows.of_entry, first + np.repeat(np.arange(len(more)), size)])
    ones = np.ones(int(size.sum()))
    indptr = np.concatenate([rows.indptr, rows.indptr[-1] + np.cumsum(size)])
    cords = np.concatenate([rows.cords, np.zeros((len(ones), 2))])
    return Rows(indptr, racks, np.concatenate([rows.coeff, ones]), of_entry, np.concatenate([rows.fixed, ones]), cords)


def arrives_s(kit: Kit, cell: int) -> float:
    """From the loss until its load is on the survivor [s]."""
    losses = kit.plan.losses
    return float(losses.cases[losses.delta_case[cell]].stages[losses.delta_stage[cell]].at_s)


def _heat_deadline_s(kit: Kit, heat_w: Floats, limit_w: Floats) -> Floats:
    """m x cp x dT / Q of each heat cell [H, s]: until what is not carried away has used up the loop's spare kelvins.

    Spare at design flow; for the first START_S without standby units. Without any flow the cold plates' own loop is all
    that is left, local protection's in NO_FLOW_S.
    """
    loops = [kit.plan.site.loops[w.loop] for w in kit.heat_of]
    spare_j, gap_w, flows = np.zeros(len(loops)), np.zeros(len(loops)), np.ones(len(loops), dtype=np.bool_)
    for h, (x, w) in enumerate(zip(loops, kit.heat_of, strict=True)):
        coolant = COOLANTS[x.coolant]
        spare_k = max(0.0, x.return_max_c - x.supply_c - heat_w[h] / (x.flow_lpm * coolant.w_per_lpm_k))
        spare_j[h] = x.volume_l * coolant.cp_j_per_kg_k * spare_k  # 1 kg/L: PG25 is a little heavier
        gap_w[h], flows[h] = w.gap_heat_w, w.flow_lpm > 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        early_w, late_w = np.maximum(heat_w - gap_w, 0.0), np.maximum(heat_w - limit_w, 0.0)
        early_s = np.where(early_w > 0.0, spare_j / early_w, np.inf)
        late_s = np.where(late_w > 0.0, START_S + (spare_j - early_w * START_S) / late_w, np.inf)
    deadline_s = np.where(early_s < START_S, early_s, late_s)
    return np.where(flows, deadline_s, np.minimum(deadline_s, NO_FLOW_S))
