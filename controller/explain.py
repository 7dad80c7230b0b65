"""Why a rack has its cap: the limit that binds it, what one more kW there would gain, and the limit behind it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from controller import whatif, why
from controller.cycle import State
from controller.frames import Frames, Reason
from controller.plan import Plan
from controller.words import power, row_text

NOTHING: Mapping[str, str] = {}
SAME_SHARE = 0.002  # of what a rack wants: caps nearer to each other than this are one to an operator


@dataclass(frozen=True)
class Bound:
    """A row that binds a rack: its name and what narrowed it, its limit [W], the rack's cap and level under it."""

    row: str
    why: str
    limit_w: float
    cap_w: float
    level: float


@dataclass(frozen=True)
class Explanation:
    """One rack's cap, explained. `work_per_kw`: racks' worth of full-speed work that one more kW of `bound` gains."""

    rack: str
    job: str
    racks_in_job: int
    reason: str
    cap_w: float
    wants_w: float
    draws_w: float | None
    level: float
    bound: Bound | None
    work_per_kw: float | None
    then: Bound | None  # what would bind if `bound` did not
    lines: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def explain(plan: Plan, frames: Frames, state: State, rack: int, said: Mapping[str, str] = NOTHING) -> Explanation:
    """The explanation of one rack, at the cost of three fillings; `said` gives who asked for what (Acts.said)."""
    orders, known = frames.orders, frames.estimate
    row = int(orders.row[rack])
    bound, gain, then = None, None, None
    if row >= 0:
        base = whatif.solve(plan, known, frames.limits, state.allocate)
        bound = _bound(plan, frames, row, float(orders.cap_w[rack]), float(frames.proposal.level[rack]))
        gain = whatif.price(plan, frames, state.allocate, base, row)
        then = _then(plan, frames, state, rack, row)
    drawn_w = float(known.rack_power_w[rack])
    mates = int((plan.gang_of == plan.gang_of[rack]).sum())
    here = Explanation(
        rack=plan.site.racks[rack].id,
        job=plan.site.racks[rack].job,
        racks_in_job=mates,
        reason=Reason(int(orders.reason[rack])).name.lower(),
        cap_w=float(orders.cap_w[rack]),
        wants_w=float(known.demand_w[rack]),
        draws_w=drawn_w if np.isfinite(drawn_w) else None,
        level=float(frames.proposal.level[rack]),
        bound=bound,
        work_per_kw=gain,
        then=then,
        lines=(),
    )
    case = why.Case(plan, frames, state, rack, said)
    lines = (_first(here), why.words(case), *_of_row(plan, frames, here, rack, row))
    return Explanation(**{**vars(here), "lines": tuple(x for x in lines if x)})


def _bound(plan: Plan, frames: Frames, row: int, cap_w: float, level: float) -> Bound:
    return Bound(row_text(plan, row), frames.limits.narrowed_by[row], float(frames.limits.limit_w[row]), cap_w, level)


def _then(plan: Plan, frames: Frames, state: State, rack: int, row: int) -> Bound | None:
    """What binds the rack when `row` does not, None where nothing would."""
    free = whatif.solve(plan, frames.estimate, whatif.widened(frames.limits, row, np.inf), state.allocate)
    behind = int(free.served.row[rack])
    if behind < 0:
        return None
    return _bound(plan, frames, behind, float(free.served.power_w[rack]), float(free.served.level[rack]))


def _first(here: Explanation) -> str:
    """What the rack may draw, beside what it wants and draws."""
    drawn = "" if here.draws_w is None else f"; it draws {power(here.draws_w)} now"
    if here.cap_w >= here.wants_w:
        free = ". Nothing limits it" if here.reason == "free" else ""
        return f"Rack {here.rack} may draw {power(here.cap_w)} and wants {power(here.wants_w)}{drawn}{free}."
    level = f" (level {here.level:.2f})" if here.bound else ""
    return f"Rack {here.rack} may draw {power(here.cap_w)} of the {power(here.wants_w)} it wants{level}{drawn}."


def _of_row(plan: Plan, frames: Frames, here: Explanation, rack: int, row: int) -> tuple[str, ...]:
    """The limit behind the cap, its price, the next one, and what would help."""
    if here.bound is None or here.work_per_kw is None:
        return ()
    narrowed = f" ({here.bound.why})" if here.bound.why else ""
    limit = f"The limit is {here.bound.row}{narrowed}: full at {power(here.bound.limit_w)}."
    if here.racks_in_job > 1:
        limit += f" The {here.racks_in_job} racks of job {here.job} run in step, at one level."
        if rack not in why.racks_of(frames, row):
            limit += " This rack does not load that limit, others of its job do."
    return limit, _gain(here.work_per_kw), _next(here), why.helps(plan, row, here.bound.why)


def _gain(work_per_kw: float) -> str:
    if abs(work_per_kw) < 1e-9:
        return "One more kW there gains no work: another limit is full as well, or the racks behind it are flat out."
    if work_per_kw < 0.0:
        return (
            f"One more kW there costs {-work_per_kw:.3g} racks' worth of work a second: it lifts the lowest level,"
            " and that takes more from others than it gives."
        )
    return f"One more kW there gives {work_per_kw:.3g} racks' worth of work a second."


def _next(here: Explanation) -> str:
    if here.then is None:
        return f"Without it nothing would hold the rack below the {power(here.wants_w)} it wants."
    if here.then.cap_w <= here.cap_w + SAME_SHARE * here.wants_w:
        return f"Right behind it stands {here.then.row}, at the same {power(here.then.cap_w)}."
    return f"The next limit would be {here.then.row}, at {power(here.then.cap_w)} (level {here.then.level:.2f})."
