"""`headroom capacity`: how many racks, or how dense ones, a shell carries, what work they do and at what risk.

Each step is the same shell with more in it (grown.py), under the same drawn faults with the same seeds. A run is a
violation when an unfaulted element trips, a limit outlasts its deadline, or a rack that keeps its coolant is forced
down. Risk is the share of runs with one, for a fault at high demand; how often faults come is the site's to know.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from drivers.site.model import Site
from sim.lab.drawn import drawn
from sim.lab.grown import denser_racks, more_racks
from sim.lab.study import Case, Results, Run, Say, StudyError, Where, check_policies, default_folder, runs_of

Z = 1.96  # of a 95 % interval
COLUMNS = ("grown", "racks", "nameplate MW", "runs", "violations", "risk", "95 %", "work", "of today's", "worst gang")


@dataclass(frozen=True)
class Grow:
    """What to grow, up to what, and how each step is tried."""

    by: Literal["racks", "density"] = "racks"
    most: float = 1.4
    steps: int = 5
    faults: int = 20
    policy: str = "fair"
    seed: int = 1
    seconds: int = 600
    where: Where = field(default_factory=Where)
    results: Path | None = None


def way(by: str) -> Literal["racks", "density"]:
    """What a user wants to grow; StudyError for anything else."""
    match by:
        case "racks" | "density":
            return by
        case _:
            raise StudyError(f"a site does not grow by '{by}': give racks or density")


def capacity(site: Site, grow: Grow, say: Say) -> dict[str, Any]:
    """The steps from the site as it is to `most`, each with its work, violations and risk; stops early at Ctrl-C.

    PolicyError for an unknown policy, ValueError for a step that cannot be built.
    """
    check_policies([grow.policy])
    grown: Callable[[Site, float], Site] = more_racks if grow.by == "racks" else denser_racks
    count = max(grow.steps - 1, 1)
    factors = [1.0 + (grow.most - 1.0) * i / count for i in range(grow.steps)]
    results = Results(grow.results or default_folder())
    sites = [grown(site, f) for f in factors]
    scenarios = [drawn(site, "random", grow.seed, i) for i in range(grow.faults)]
    cases = [
        Case(s, x, grow.policy, grow.seed + i, grow.seconds) for s in sites for i, x in enumerate(scenarios)
    ]  # the same faults and plants at every step
    step_of = {id(s): k for k, s in enumerate(sites)}
    runs: list[list[Run]] = [[] for _ in sites]
    complete = True
    try:
        for case, run in runs_of(cases, grow.where, results, say):
            runs[step_of[id(case.site)]].append(run)
    except KeyboardInterrupt:
        complete = False
        say(f"stopped after {sum(map(len, runs))} of {len(cases)} runs; ask again to go on")
    steps = [_step(s, f, r) for s, f, r in zip(sites, factors, runs, strict=True)]
    for step in steps:
        step["work_of_today"] = step["work_racks"] / max(steps[0]["work_racks"], 1e-9)
    return {"site": site.name, "by": grow.by, "policy": grow.policy, "complete": complete, "steps": steps}


def violated(run: Run) -> bool:
    """Whether a run has broken what must hold: no trip, no deadline missed, no rack forced down, no failure."""
    if "failed" in run:
        return True
    return bool(run["trips"] or run["beyond_deadline_s"] or run["forced_down_racks"])


def interval(violations: int, runs: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (J. Am. Stat. Assoc. 22 (1927), doi:10.1080/01621459.1927.10502953)."""
    if not runs:
        return 0.0, 1.0
    p, part = violations / runs, Z * Z / runs
    middle, half = p + part / 2.0, Z * math.sqrt(p * (1.0 - p) / runs + part / (4.0 * runs))
    return max(0.0, (middle - half) / (1.0 + part)), min(1.0, (middle + half) / (1.0 + part))


def _step(site: Site, factor: float, runs: Sequence[Run]) -> dict[str, Any]:
    scored = [r for r in runs if "skipped" not in r and "failed" not in r]
    tried = [r for r in runs if "skipped" not in r]
    violations = sum(map(violated, tried))
    low, high = interval(violations, len(tried))
    work = sum(r["work_done"] for r in scored) / max(len(scored), 1)
    nameplate_w = sum(r.max_w for r in site.racks)
    return {
        "grown": factor,
        "racks": len(site.racks),
        "nameplate_mw": nameplate_w / 1e6,
        "runs": len(tried),
        "violations": violations,
        "trips": sum(r["trips"] for r in scored),
        "risk": violations / max(len(tried), 1),
        "risk_low": low,
        "risk_high": high,
        "work_done": work,
        "work_racks": work * nameplate_w,  # in watts of nameplate at full speed, so that denser racks count for more
        "worst_gang_level": sum(r["worst_gang_level"] for r in scored) / max(len(scored), 1),
        "slo_miss": sum(r["slo_miss"] for r in scored) / max(len(scored), 1),
        "violated": [f"{r['scenario']} seed {r['seed']}" for r in tried if violated(r)],
    }


def table(result: dict[str, Any]) -> list[str]:
    """The steps as lines."""
    rows = [COLUMNS]
    for s in result["steps"]:
        span = f"{100 * s['risk_low']:.1f}-{100 * s['risk_high']:.1f} %"
        figures = (f"{s['grown']:.2f}", s["racks"], f"{s['nameplate_mw']:.2f}", s["runs"], s["violations"])
        shares = (f"{100 * s['risk']:.1f} %", span, f"{s['work_done']:.3f}", f"{s['work_of_today']:.3f}")
        rows.append(tuple(map(str, (*figures, *shares, f"{s['worst_gang_level']:.3f}"))))  # type: ignore[arg-type]
    wide = [max(len(r[i]) for r in rows) for i in range(len(COLUMNS))]
    return ["  ".join(cell.rjust(w) for cell, w in zip(row, wide, strict=True)) for row in rows]
