"""Which survivors would not last through a loss, with the caps of now, the corrective set and the racks' own times."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from controller.aftermath import After, Kit, arrives_s, survivors
from controller.corrective import Correction
from controller.frames import Estimate, Floats, Ints, Rows
from controller.kernels.trip import time_to_trip

SLACK = 1e-6  # of a limit: caps are whole steps


@dataclass(frozen=True)
class Short:
    """A survivor that would not last: by how much, and until when that must be gone."""

    node: int  # -1: a loop
    name: str
    stage: int
    over_w: float
    within_s: float
    trips: bool  # before the racks have acted; else it stays beyond its continuous rating
    disobeyed: bool  # it would last if every rack obeyed


def shortfall(kit: Kit, case: int, estimate: Estimate, after: After, fix: Correction) -> list[Short]:
    """Survivors that do not last through a loss with this correction's caps, without shedding; the worst first."""
    losses = kit.plan.losses
    cells = np.flatnonzero((losses.delta_case == case) & after.over)
    out = _hot(kit, case, after)
    if len(cells):
        rows, room_w, _ = survivors(kit, estimate, after, cells, np.zeros(0, dtype=np.int64))
        out += _intervals(kit, estimate, after, cells, rows, room_w, fix.caps(after.held_w))
    return sorted(out, key=lambda x: (-x.over_w, x.name))


def _hot(kit: Kit, case: int, after: After) -> list[Short]:
    """Loops that are too warm before the racks have acted."""
    out = []
    act_s = float(kit.plan.losses.act_s.max())
    for h in np.flatnonzero((kit.heat_case == case) & (after.heat_deadline_s < act_s)).tolist():
        water = kit.heat_of[h]
        over_w = float(after.heat_w[h]) - min(float(after.heat_limit_w[h]), water.gap_heat_w)
        name = f"loop {kit.plan.site.loops[water.loop].id}"
        out.append(Short(-1, name, int(kit.heat_stage[h]), over_w, float(after.heat_deadline_s[h]), True, False))
    return out


def _intervals(
    kit: Kit,
    estimate: Estimate,
    after: After,
    cells: Ints,
    rows: Rows,
    room_w: Floats,
    then_w: Floats,
) -> list[Short]:
    """Trip states of the overloaded survivors from one class of racks that acts to the next, and at the end."""
    losses, node = kit.plan.losses, kit.plan.losses.delta_node[cells]
    table = replace(kit.table, curve_of=kit.table.curve_of[node])
    comes_s = np.array([arrives_s(kit, d) for d in cells.tolist()])
    times = [0.0, *np.unique(losses.act_s[np.unique(rows.racks)]).tolist(), np.inf]
    used, cold = estimate.trip_used[node].copy(), np.zeros(len(cells))
    over_w, within_s = np.zeros(len(cells)), np.full(len(cells), np.inf)
    trips, disobeyed = np.zeros(len(cells), dtype=np.bool_), np.zeros(len(cells), dtype=np.bool_)
    for begin_s, end_s in pairwise(times):
        acted = losses.act_s <= begin_s
        load_w = after.limit_w[cells] - room_w + rows.dot(np.where(acted, then_w, after.held_w))
        margin_w = _disobeyed(kit, rows, np.where(acted, after.held_w - then_w, 0.0))
        load_w = load_w + margin_w
        whole_s = time_to_trip(table, cold, load_w / estimate.rating_w[node])
        lasts_s = np.maximum(end_s, comes_s) - np.maximum(begin_s, comes_s)
        if np.isinf(end_s):
            short = load_w > after.limit_w[cells] * (1.0 + SLACK) + 1.0
        else:
            with np.errstate(divide="ignore", invalid="ignore"):
                used = np.where(lasts_s > 0.0, used + np.where(np.isinf(whole_s), 0.0, lasts_s / whole_s), used)
                left_s = np.where(used < 1.0, (1.0 - used) * whole_s, 0.0)
            short = (lasts_s > 0.0) & np.isfinite(whole_s) & (left_s < kit.plan.site.control.trip_margin_s)
        first = short & (over_w <= 0.0)
        over_w = np.where(first, load_w - after.limit_w[cells], over_w)
        within_s = np.where(first, np.maximum(begin_s, comes_s), within_s)
        trips |= first & np.isfinite(end_s)
        disobeyed |= first & (load_w - margin_w <= after.limit_w[cells] * (1.0 + SLACK) + 1.0)
    nodes = [kit.plan.site.nodes[n] for n in node.tolist()]
    return [
        Short(
            node=int(node[i]),
            name=f"{nodes[i].kind.replace('_', ' ')} {nodes[i].id}",
            stage=int(losses.delta_stage[cells[i]]),
            over_w=float(over_w[i]),
            within_s=float(within_s[i]),
            trips=bool(trips[i]),
            disobeyed=bool(disobeyed[i]),
        )
        for i in np.flatnonzero(over_w > 0.0)
    ]


def _disobeyed(kit: Kit, rows: Rows, cut_w: Floats) -> Floats:
    """What stays on each row if the site's share of a cut [R, W], the largest at least, is not obeyed."""
    share = kit.plan.site.control.disobedient_share
    each = rows.coeff * np.maximum(cut_w, 0.0)[rows.racks]
    largest = np.zeros(len(rows.indptr) - 1)
    np.maximum.at(largest, rows.of_entry, each)
    total = np.bincount(rows.of_entry, each, minlength=len(largest))
    several = np.bincount(rows.of_entry, each > 0.0, minlength=len(largest)) > 1
    return np.where(several & (share > 0.0), np.maximum(share * total, largest), 0.0)
