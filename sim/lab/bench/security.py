"""The reserve that corrective security frees: the same losses on the same seeds, under each kind of security.

corrective: rows for what a loss moves until caps have acted, and a set of caps ready for what follows. preventive: what
a loss moves must fit continuous ratings at today's caps, and nothing is done after it. none: neither. Limits of the
present state hold in all three, so an overload is cut in the next cycle wherever the protections wait for it.

Work is the plant's own: time at full speed by each rack's GPU power, as a share of that asked for; a training job with
a dark rack stands still.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np

from drivers.site.load import resolve_site
from drivers.site.model import Site
from sim.lab.branch import Answer, branches
from sim.lab.drill import at_full_demand, run_loss, usual
from sim.lab.lockstep import LockStep
from sim.lab.losses import RETURNING, sample
from sim.lab.tally import violations

Policy = Literal["corrective", "preventive", "none"]
POLICIES: tuple[Policy, ...] = ("corrective", "preventive", "none")
WINDOW_S = 60.0  # after a loss; above batteries twice their time at rating longer: at half load they last so long
SMALL_UPS = 0.8  # of the shell's own: 2.2 MVA where there were 2.75
Say = Callable[[str], None]


def shells() -> dict[str, Site]:
    """The sites compared: colossus, the same with smaller UPS, and the hall likewise."""
    colossus, hall = resolve_site("colossus"), resolve_site("hall")
    return {"colossus": colossus, "colossus, UPS 2.2 MVA": smaller_ups(colossus, SMALL_UPS), "hall": hall}


def smaller_ups(site: Site, share: float) -> Site:
    """The site with UPS of `share` of their rating."""
    nodes = tuple(n.model_copy(update={"rating": n.rating * share}) if n.kind == "ups" else n for n in site.nodes)
    return site.model_copy(update={"nodes": nodes})


def secured_by(site: Site, policy: Policy) -> Site:
    """The site with another kind of security."""
    return site.model_copy(update={"control": site.control.model_copy(update={"security": policy})})


def under(site: Site, policy: Policy, losses: int, kinds: Sequence[str], seed: int, jobs: int) -> dict[str, Any]:
    """Work without a loss, and over a window after each of the sampled losses; BranchError when a run fails."""
    lock = at_full_demand(secured_by(site, policy), seed)
    if policy != "corrective":
        _answer_nothing(lock)
    before = usual(lock)
    drawn = sample(site, losses, kinds, np.random.default_rng(seed))
    riding_s = 2.0 * site.control.ups_battery_s
    windows_s = [WINDOW_S + riding_s * (e.kind in RETURNING) for e in drawn]
    tasks = [partial(run_loss, lock, e, 0.0, s, seed, whole=True) for e, s in zip(drawn, windows_s, strict=True)]
    runs = [answer for _, answer in branches(tasks, jobs)]
    return {"policy": policy, "work": before.share(), "work_by_class": before.by_class(), **_after(runs)}


def _answer_nothing(lock: LockStep) -> None:
    """No loss is recognised as one: what is done is only what the limits of the present state ask."""
    plan = lock.plan
    lock.plan = replace(
        plan,
        case_of_node=np.full_like(plan.case_of_node, -1),
        case_of_unit=np.full_like(plan.case_of_unit, -1),
    )


def _after(runs: Sequence[Answer]) -> dict[str, Any]:
    shares = [r["work_done"] / r["work_asked"] for r in runs]
    return {
        "losses": len(runs),
        "work_after": float(np.mean(shares)),
        "work_after_worst": min(shares),
        "losses_with_trips": sum(bool(r["trips"]) for r in runs),
        "trips": sum(len(r["trips"]) for r in runs),
        "dark_racks": sum(r["dark_racks"] for r in runs),
        "losses_ill": sum(bool(violations(r)) for r in runs),
    }


def bench_security(
    say: Say, sites: dict[str, Site] | None = None, losses: int = 24, kinds: Sequence[str] = (), jobs: int = 2
) -> dict[str, Any]:
    """Every policy on every shell, and the table of them in Markdown."""
    results: dict[str, list[dict[str, Any]]] = {}
    for name, site in (shells() if sites is None else sites).items():
        results[name] = []
        for policy in POLICIES:
            say(f"{name}: {policy} ..")
            results[name].append(under(site, policy, losses, kinds, 1, jobs))
    return {"shells": results, "table": markdown(results)}


def markdown(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The results as a table for the README."""
    head = ("site", "security", "work, nothing lost", "work after a loss", "worst loss", "trips", "racks dark")
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for name, rows in results.items():
        for r in rows:
            shares = (f"{100.0 * r[k]:.1f} %" for k in ("work", "work_after", "work_after_worst"))
            cells = (name, r["policy"], *shares, str(r["trips"]), str(r["dark_racks"]))
            lines.append("| " + " | ".join(cells) + " |")
    return lines
