"""Every single loss in words: its worst survivor, the margin, the time, whether it is secured and what would secure it.

Secured means: with the caps of now, the corrective set and the racks' own times, no survivor trips, every survivor ends
inside its continuous rating and every loop inside its heat limit, without shedding. Storage is not dispatched, so it
never counts; it is only named as what would help.
"""

from collections.abc import Generator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from controller.aftermath import After, Kit, arrives_s, in_stage, overloads
from controller.contingency import Loss
from controller.contingency.takes import in_words, takes, worst_stage
from controller.corrective import Correction, corrective
from controller.frames import Codes, Estimate, Floats, Limits
from controller.kernels.trip import time_to_trip
from controller.shortfall import Short, shortfall
from controller.steps import whole
from controller.words import count, duration, power

MUCH = -9.99  # a margin below this says only that next to nothing is allowed
EASY_STEP = 50  # losses judged in one step of the background work


@dataclass(frozen=True)
class Verdict:
    """One loss."""

    id: str
    kind: str
    takes: dict[str, tuple[str, ...]]  # kind -> ids, at its worst stage
    takes_words: str
    survivor: str  # the worst: "ups h1b1u2", empty where nothing is loaded further
    stage: str
    load_w: float  # of that survivor after the loss at the caps of now, nan without one
    allowed_w: float  # continuous
    margin_w: float
    margin: float  # share of what is allowed; inf without a survivor
    limit_s: float  # after the loss, until the first limit is reached at the caps of now: inf never
    secured: bool
    dark: int  # racks without power at its worst stage
    reason: str
    would_help: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not finite is None."""
        out = asdict(self)
        return {k: None if isinstance(x, float) and not np.isfinite(x) else x for k, x in out.items()}


@dataclass(frozen=True)
class _Worst:
    """The worst survivor of a case, and the shortest time to a limit."""

    name: str = ""
    stage: str = ""
    load_w: float = float("nan")
    allowed_w: float = float("nan")
    limit_s: float = float("inf")

    @property
    def margin(self) -> float:
        """Share of what is allowed."""
        return (self.allowed_w - self.load_w) / self.allowed_w if self.name else float("inf")


def contingencies(
    kit: Kit, estimate: Estimate, limits: Limits, cap_w: Floats, codes: Codes | None = None
) -> list[Verdict]:
    """The verdict on every loss at the caps in force [R], what is not secured first, then by margin."""
    return whole(contingencies_each(kit, estimate, limits, cap_w, codes))


def contingencies_each(
    kit: Kit, estimate: Estimate, limits: Limits, cap_w: Floats, codes: Codes | None = None
) -> Generator[None, None, list[Verdict]]:
    """The same in steps: one for each loss that overloads anything, one for some of the others."""
    after = overloads(kit, estimate, limits, cap_w, codes)
    yield
    worst = _worst(kit, estimate, after)
    over = set(kit.plan.losses.delta_case[after.over].tolist()) | set(kit.heat_case[after.hot].tolist())
    out = []
    for case in range(len(kit.plan.losses.cases)):
        if case in over:
            yield
            fix = corrective(kit, case, estimate, limits, cap_w, codes, after)
            short = shortfall(kit, case, estimate, after, fix)
            out.append(_judged(kit, case, worst.get(case, _Worst()), after, fix, short))
        else:
            out.append(_easy(kit, case, worst.get(case, _Worst())))
        if case % EASY_STEP == 0:
            yield
    return sorted(out, key=lambda v: (v.secured, v.margin, v.id))


def _worst(kit: Kit, estimate: Estimate, after: After) -> dict[int, _Worst]:
    """Of every case that loads anything further."""
    losses, nodes = kit.plan.losses, kit.plan.site.nodes
    node = losses.delta_node
    margin = (after.limit_w - after.load_w) / np.maximum(after.limit_w, 1.0)
    table = replace(kit.table, curve_of=kit.table.curve_of[node])
    left_s = time_to_trip(table, estimate.trip_used[node], after.load_w / estimate.rating_w[node])
    out: dict[int, _Worst] = {}
    order = np.lexsort((margin, losses.delta_case))
    for d in order[np.flatnonzero(np.diff(losses.delta_case[order], prepend=-1))].tolist():
        case, at = int(losses.delta_case[d]), nodes[node[d]]
        stage = losses.cases[case].stages[losses.delta_stage[d]]
        out[case] = _Worst(
            f"{at.kind.replace('_', ' ')} {at.id}", stage.name, float(after.load_w[d]), float(after.limit_w[d])
        )
    for d in np.flatnonzero(np.isfinite(left_s)).tolist():
        case = int(losses.delta_case[d])
        limit_s = arrives_s(kit, d) + float(left_s[d])
        out[case] = replace(out[case], limit_s=min(out[case].limit_s, limit_s))
    for h, case in enumerate(kit.heat_case.tolist()):
        out[case] = _with_heat(kit, after, h, out.get(case, _Worst()))
    return out


def _with_heat(kit: Kit, after: After, h: int, worst: _Worst) -> _Worst:
    """The worse of a survivor and a loop."""
    stage = kit.plan.losses.cases[kit.heat_case[h]].stages[kit.heat_stage[h]]
    name = f"loop {kit.plan.site.loops[kit.heat_of[h].loop].id}"
    limit_s = min(worst.limit_s, stage.at_s + float(after.heat_deadline_s[h]))
    loop = _Worst(name, stage.name, float(after.heat_w[h]), max(float(after.heat_limit_w[h]), 1.0), limit_s)
    return loop if loop.margin < worst.margin else replace(worst, limit_s=limit_s)


def _easy(kit: Kit, case: int, worst: _Worst) -> Verdict:
    """A loss that no survivor feels beyond its rating."""
    loss = kit.plan.losses.cases[case]
    if worst.name:
        reason = f"{worst.name} then carries {power(worst.load_w)} of {power(worst.allowed_w)}"
    else:
        reason = "no load moves onto anything"
    if loss.kind == "storage":
        reason = "only what it discharges now comes back to its node, and the rows carry that already"
    return _verdict(kit, loss, worst, secured=True, reason=reason + _stranded(loss), would_help="")


def _stranded(loss: Loss) -> str:
    """Racks that stand still for want of power or cooling."""
    dark, hot = max(len(s.dark) for s in loss.stages), max(len(s.hot) for s in loss.stages)
    words = f"; {count(dark, 'rack')} without power{in_stage(worst_stage(loss))}" if dark else ""
    return words + (f"; {count(hot, 'rack')} without cooling: their own protection stops them" if hot else "")


def _judged(kit: Kit, case: int, worst: _Worst, after: After, fix: Correction, short: list[Short]) -> Verdict:
    """A loss that overloads something at the caps of now."""
    loss = kit.plan.losses.cases[case]
    act_s = float(kit.plan.losses.act_s.max())
    gives_w = float((after.held_w[fix.rack] - fix.cap_w).sum())
    if short or len(fix.shed_rack) or not fix.fits:
        reason, would_help = _not_secured(kit, loss, fix, short)
        return _verdict(kit, loss, worst, secured=False, reason=reason + _stranded(loss), would_help=would_help)
    lasts = f"{worst.name} has {duration(worst.limit_s)}" if np.isfinite(worst.limit_s) else "no protection counts"
    reason = f"{count(len(fix.rack), 'rack')} give {power(gives_w)} within {act_s:.1f} s; {lasts}"
    if not len(fix.rack):
        reason = f"{worst.name} has {duration(worst.limit_s)}: what comes back by then is seen first"
    return _verdict(kit, loss, worst, secured=True, reason=reason + _stranded(loss), would_help="")


def _not_secured(kit: Kit, loss: Loss, fix: Correction, short: list[Short]) -> tuple[str, str]:
    """Why, and what would help."""
    if not short:
        first = fix.said[0] if fix.said else "floors do not fit"
        return f"jobs are shed: {first}", _pausing(kit, fix)
    x = short[0]
    what = "would trip before the racks have acted" if x.trips else "stays overloaded with every rack at its lowest"
    if x.node < 0:
        what = "is too warm before the racks have acted"
    if x.disobeyed:
        what = "lasts only if every rack obeys"
    reason = f"{x.name} {what}{in_stage(loss.stages[x.stage])}: {power(x.over_w)} too much"
    if fix.said:
        reason += f"; the shed ladder acts: {count(len(fix.shed_rack), 'rack')}"
    ways = [f"{power(x.over_w)} less on {x.name} " + (f"within {duration(x.within_s)}" if x.within_s else "beforehand")]
    ways += _storage(kit, loss, x)
    return reason, ": ".join([ways[0], ", or ".join([*ways[1:], _pausing(kit, fix)])]).rstrip(": ,")


def _pausing(kit: Kit, fix: Correction) -> str:
    """Which jobs the ladder would take."""
    jobs = dict.fromkeys(kit.plan.site.racks[r].job or kit.plan.site.racks[r].id for r in fix.shed_rack.tolist())
    names = list(jobs)
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"pausing {', '.join(names[:4])}{more}" if names else ""


def _storage(kit: Kit, loss: Loss, x: Short) -> list[str]:
    """Storage plants on the surviving bus, below the survivor, that live through the loss."""
    site, stage = kit.plan.site, loss.stages[x.stage]
    fed = dict(stage.fed)
    out = []
    for plant in site.storage:
        node, path = site.node_index[plant.node], []
        if node in (*stage.dead, *loss.stages[0].dead) or plant.node == loss.id or plant.id == loss.id:
            continue
        while node >= 0 and node not in path:
            path.append(node)
            node = fed.get(node, int(kit.plan.parent[node]))
        if x.node in path:
            part = " of it" if plant.power_w < x.over_w else ""
            out.append(f"storage {plant.id} there has {power(plant.power_w)}{part}")
    return out


def _verdict(kit: Kit, loss: Loss, worst: _Worst, *, secured: bool, reason: str, would_help: str) -> Verdict:
    taken = takes(kit.plan.losses.building, loss, worst_stage(loss))
    return Verdict(
        id=loss.id,
        kind=loss.kind,
        takes=taken,
        takes_words=in_words(taken),
        survivor=worst.name,
        stage=worst.stage,
        load_w=worst.load_w,
        allowed_w=worst.allowed_w,
        margin_w=worst.allowed_w - worst.load_w,
        margin=worst.margin,
        limit_s=worst.limit_s,
        secured=secured,
        dark=max(len(s.dark) for s in loss.stages),
        reason=reason,
        would_help=would_help,
    )


def lines(verdicts: list[Verdict]) -> list[str]:
    """A plain text table, one loss a line, with a head."""
    out = [
        f"{'loss':<28} {'secured':<8} {'worst survivor':<30} {'load':>11} {'allowed':>11} {'margin':>8} {'limit':>7}"
    ]
    for v in verdicts:
        load, allowed = ("-", "-") if not v.survivor else (power(v.load_w), power(v.allowed_w))
        margin = "-" if not np.isfinite(v.margin) else f"{v.margin:.1%}" if v.margin > MUCH else "none"
        limit = "never" if not np.isfinite(v.limit_s) else duration(v.limit_s)
        name = f"{v.kind.replace('_', ' ')} {v.id}"
        yes = "yes" if v.secured else "NO"
        out.append(f"{name:<28} {yes:<8} {v.survivor or '-':<30} {load:>11} {allowed:>11} {margin:>8} {limit:>7}")
        if not v.secured:
            out.append(f"    {v.reason}" + (f". Would help: {v.would_help}" if v.would_help else ""))
    return out
