"""The site's tight rows ranked by price: where one more kW buys the most work."""

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from controller import whatif
from controller.cycle import State
from controller.frames import Frames, Ints
from controller.plan import Plan
from controller.words import count, row_kind, row_text, some

PRICED = 200  # rows: those that hold the most power back; a price is one filling
NOTHING = 1e-9  # a price below this is none
SHORT_W = 1.0  # a rack that misses less than this misses nothing


@dataclass(frozen=True)
class Bottleneck:
    """One tight row. `work_per_kw`: racks' worth of full-speed work that one more kW there gains."""

    row: int
    name: str
    kind: str
    why: str  # what narrowed it, "" for the rating itself
    limit_w: float
    work_per_kw: float
    racks: int  # that it holds below what they want
    missing_w: float  # what they want beyond what they get
    jobs: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def rank_each(plan: Plan, frames: Frames, state: State) -> Generator[None, None, tuple[Bottleneck, ...]]:
    """The tight rows, dearest first, at most PRICED; a filling between two yields."""
    before = whatif.solve(plan, frames.estimate, frames.limits, state.allocate)
    base = before.served
    missing_w = np.where(base.row >= 0, np.maximum(frames.estimate.demand_w - base.power_w, 0.0), 0.0)
    held = missing_w > SHORT_W
    short_w = np.bincount(base.row[held], missing_w[held], minlength=len(base.tight))
    rows = np.flatnonzero(short_w)
    found, most_work = [], plan.site.control.objective == "throughput"
    duals = whatif.duals(plan, frames, state.allocate, before) if most_work else None
    for row in rows[np.argsort(-short_w[rows], kind="stable")][:PRICED]:
        yield
        gain = float(duals[row]) if duals is not None else whatif.price(plan, frames, state.allocate, before, int(row))
        found.append(_bottleneck(plan, frames, int(row), gain, np.flatnonzero(held & (base.row == row)), short_w[row]))
    return tuple(sorted(found, key=lambda b: (-b.work_per_kw, -b.missing_w)))


def _bottleneck(plan: Plan, frames: Frames, row: int, gain: float, racks: Ints, missing_w: float) -> Bottleneck:
    return Bottleneck(
        row=row,
        name=row_text(plan, row),
        kind=row_kind(plan, row),
        why=frames.limits.narrowed_by[row],
        limit_w=float(frames.limits.limit_w[row]),
        work_per_kw=gain,
        racks=len(racks),
        missing_w=float(missing_w),
        jobs=tuple(dict.fromkeys(plan.site.racks[r].job for r in racks if plan.site.racks[r].job)),
    )


def lines(found: Sequence[Bottleneck], shown: Sequence[Bottleneck]) -> list[str]:
    """A table for people; those that gain nothing alone are one line unless all of them are shown."""
    out = ["racks' worth of work that one more kW gains, racks held back, power they miss, limit: jobs"]
    every = len(shown) == len(found)
    named = [x for x in shown if every or abs(x.work_per_kw) > NOTHING]
    out += [line(x) for x in named]
    idle = [x for x in found if abs(x.work_per_kw) <= NOTHING]
    if every or not idle:
        return out
    racks, missing_mw = sum(x.racks for x in idle), sum(x.missing_w for x in idle) / 1e6
    limits, most = count(len(idle), "limit"), max(idle, key=lambda x: x.missing_w)
    figures = f"{'nothing':>9s}  {racks:5d} racks  {missing_mw:8.3f} MW"
    out.append(f"{figures}  {limits}, another is full with each; {most.name} holds most")
    more = len(found) - len(named) - len(idle)
    return [*out, f"and {more} more: --all"] if more else out


def line(found: Bottleneck) -> str:
    """One row for people."""
    narrowed = f" ({found.why})" if found.why else ""
    jobs = f": {some(found.jobs)}" if found.jobs else ""
    figures = f"{found.work_per_kw:9.4f}  {found.racks:5d} racks  {found.missing_w / 1e6:8.3f} MW"
    return f"{figures}  {found.name}{narrowed}{jobs}"
