"""An element taken out by plan, before anyone switches: caps, who loses power, which losses are secured no longer."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from controller.aftermath import Kit, compile_kit
from controller.contingency import Loss, Losses, Stage, compile_losses
from controller.contingency.takes import in_words, takes
from controller.frames import Bools, Codes, Estimate, Floats, Limits, Rows
from controller.kernels.fill import FillInputs, build_topology, fill
from controller.kernels.trip import allowed
from controller.policies.grid import METER_ERROR
from controller.verdict import Verdict, contingencies
from controller.words import count, power, some


@dataclass(frozen=True)
class Outage:
    """The site with one element out, its ties closed, its UPS batteries empty."""

    id: str
    kind: str
    takes: dict[str, tuple[str, ...]]  # kind -> ids
    cap_w: tuple[float, ...]  # [R] that the racks would come to; 0 where there is no power
    dark: tuple[str, ...]  # racks that lose power or cooling
    dark_jobs: tuple[str, ...]
    lowered: int  # racks whose cap falls
    lowered_w: float
    too_full: tuple[str, ...]  # limits that do not hold with every rack at its floor
    no_longer: tuple[Verdict, ...]  # losses secured now and no longer then
    strands: tuple[str, ...]  # losses that leave racks without power then and not now
    possible: bool
    words: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "no_longer": [v.to_dict() for v in self.no_longer]}


def outage(
    kit: Kit, estimate: Estimate, limits: Limits, cap_w: Floats, element: str, codes: Codes | None = None
) -> Outage:
    """What would be if `element` were taken out; KeyError where the site has no such element."""
    plan = kit.plan
    case = next((x for x in plan.losses.cases if x.id == element), None)
    if case is None:
        raise KeyError(element)
    losses = compile_losses(plan.site, frozenset([element]))
    out = compile_kit(replace(plan, losses=losses))
    steady = _steady(case)
    then = _moved(plan.losses, element, steady, estimate)
    gone = np.bincount(losses.base.racks, minlength=len(cap_w)) == 0
    gone[steady.hot] = True
    caps_w, too_full = _caps(out, then, limits, steady, gone)
    held_w = np.where(gone, 0.0, np.minimum(caps_w, np.maximum(cap_w, plan.floor_w)))
    now = {v.id: v for v in contingencies(kit, estimate, limits, cap_w, codes)}
    after = contingencies(out, then, limits, held_w, codes)
    racks = plan.site.racks
    lower = ~gone & (caps_w < cap_w - plan.resolution_w)
    found = Outage(
        id=element,
        kind=case.kind,
        takes=takes(plan.losses.building, case, steady),
        cap_w=tuple(caps_w.tolist()),
        dark=tuple(racks[r].id for r in np.flatnonzero(gone)),
        dark_jobs=tuple(dict.fromkeys(racks[r].job for r in np.flatnonzero(gone) if racks[r].job)),
        lowered=int(lower.sum()),
        lowered_w=float((cap_w - caps_w)[lower].sum()),
        too_full=too_full,
        no_longer=tuple(v for v in after if not v.secured and now[v.id].secured),
        strands=tuple(v.id for v in after if v.dark > now[v.id].dark),
        possible=not too_full and not gone.any(),
        words="",
    )
    return replace(found, words=_words(found))


def _steady(case: Loss) -> Stage:
    """The stage that an outage by plan comes to: ties closed, else batteries empty."""
    stages = [s for s in case.stages if s.name != "source back"]
    return next((s for s in reversed(stages) if s.fed), stages[-1])


def _moved(losses: Losses, element: str, steady: Stage, estimate: Estimate) -> Estimate:
    """The estimate with the load that nobody caps where the outage moves it."""
    number = next(i for i, x in enumerate(losses.cases) if x.id == element)
    stage = losses.cases[number].stages.index(steady)
    cells = np.flatnonzero((losses.delta_case == number) & (losses.delta_stage == stage))
    other_w = estimate.other_w.copy()
    np.add.at(other_w, losses.delta_node[cells], losses.delta_moved_w[cells])
    return replace(estimate, other_w=other_w)


def _caps(out: Kit, then: Estimate, limits: Limits, steady: Stage, gone: Bools) -> tuple[Floats, tuple[str, ...]]:
    """Caps that the racks would come to [R, W], and the limits that floors alone exceed."""
    plan = out.plan
    rows, room_w, names = _rows(out, then, limits)
    for water in steady.water:
        loop = plan.loop_row.start + water.loop
        room_w[loop] = min(room_w[loop], water.heat_w)
    constant = np.isfinite(then.constant_w) | gone
    floor_w = np.where(gone, 0.0, np.where(constant, then.constant_w, plan.floor_w))
    most_w = np.where(constant, floor_w, plan.max_w)
    topology = build_topology(plan.gang_of, plan.gang_class, rows.indptr, rows.racks, rows.coeff, out.curves)
    power_w, at_w = np.clip(then.demand_w, floor_w, most_w), floor_w
    short: tuple[str, ...] = ()
    for want_w in (power_w, most_w):
        result = fill(
            topology,
            FillInputs(
                floor_w=at_w,
                demand_w=np.maximum(want_w, at_w),
                ceiling_w=np.full(len(at_w), np.inf),
                other_w=np.where(gone, 0.0, plan.other_w),
                gpu_w=plan.gpu_w,
                curve_of=out.curve_of,
                limit_w=room_w,
            ),
        )
        short = short or tuple(names[k] for k in np.flatnonzero(result.violated))
        at_w = result.power_w
    steps = np.floor(at_w / plan.resolution_w) * plan.resolution_w
    return np.where(constant, at_w, np.maximum(steps, np.minimum(plan.floor_w, at_w))), short


def _rows(out: Kit, then: Estimate, limits: Limits) -> tuple[Rows, Floats, list[str]]:
    """Nodes as they would be fed, the other limits of now, and the losses on top of the outage."""
    plan, losses = out.plan, out.plan.losses
    n, k = len(plan.parent), len(plan.row_name)
    node_w = np.maximum(then.other_w[:n], 0.0)
    room_w = (then.rating_w - losses.reserve_w) * (1.0 - METER_ERROR) - node_w
    node = losses.node_of
    hold_s = losses.hold_s - losses.begin_s + plan.site.control.trip_margin_s
    multiple = allowed(out.table, node, then.trip_used, hold_s, losses.weight)
    loss_w = then.rating_w[node] * (1.0 - METER_ERROR) * multiple - node_w[node] - losses.moved_w - losses.fast_w
    loss_w = np.where(losses.floor_load_w <= loss_w, loss_w, np.inf)  # not secured: the verdict says so
    rest = _slice(plan.rows, n)
    rows = losses.base.joined(rest).joined(losses.rows)
    room = np.concatenate([np.maximum(room_w, 0.0), limits.room_w[n:k], loss_w])
    nodes = [f"{x.kind.replace('_', ' ')} {x.id}" for x in plan.site.nodes]
    return rows, room, [*nodes, *plan.row_name[n:], *losses.name]


def _slice(rows: Rows, first: int) -> Rows:
    """Rows from `first` on."""
    at = rows.indptr[first]
    return Rows(
        rows.indptr[first:] - at,
        rows.racks[at:],
        rows.coeff[at:],
        rows.of_entry[at:] - first,
        fixed=rows.fixed[at:],
        cords=rows.cords[at:],
    )


def _words(x: Outage) -> str:
    """The verdict in a few sentences."""
    out = [f"With {x.kind.replace('_', ' ')} {x.id} out"]
    taken = in_words(x.takes)
    out[0] += f" ({taken} with it)." if taken else "."
    if x.dark:
        jobs = f" of {some(x.dark_jobs)}" if x.dark_jobs else ""
        out.append(f"{count(len(x.dark), 'rack')}{jobs} lose power or cooling.")
    if x.too_full:
        out.append(f"Floors do not fit {some(x.too_full)}: jobs would be shed.")
    if x.lowered:
        out.append(f"{count(x.lowered, 'rack')} come down by {power(x.lowered_w)} together.")
    else:
        out.append("No cap has to come down.")
    if x.no_longer:
        names = [f"{v.kind.replace('_', ' ')} {v.id}" for v in x.no_longer]
        worst = x.no_longer[0]
        out.append(f"{count(len(names), 'loss')} no longer secured: {some(names)}; the worst: {worst.reason}.")
    else:
        out.append("Every loss that is secured now stays so.")
    if x.strands:
        out.append(f"Further racks would lose power with {count(len(x.strands), 'loss')}: {some(x.strands)}.")
    return " ".join(out)
