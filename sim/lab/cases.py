"""What a study is asked for, in words -> its cases; and what it says of them in the end."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivers.site.model import Site
from sim.lab.drawn import KINDS, by_name, drawn
from sim.lab.report import write_report
from sim.lab.rivals import OBJECTIVES, POLICIES
from sim.lab.study import Case, Results, Run, Say, StudyError, Where, check_policies, default_folder, runs_of
from sim.plant.events import Scenario
from sim.scenarios import load_scenario, scenario_names

DRAWN = re.compile(rf"({'|'.join(KINDS)}):(\d+)")
COLUMNS = ("runs", "shown", "trips", "over s", "late s", "forced", "shut", "work", "worst", "SLO miss", "moves/h")


@dataclass(frozen=True)
class Asked:
    """A study as a user asks for it; `seconds` None is as long as each scenario lasts."""

    scenarios: str = "all"
    policies: str = "fair"
    seed: int = 1
    seeds: int = 1
    seconds: float | None = None
    where: Where = field(default_factory=Where)
    results: Path | None = None
    html: Path | None = None


def conduct(site: Site, asked: Asked, say: Say) -> dict[str, Any]:
    """Run all that is asked, or what there was time for until Ctrl-C; the summary, its lines under `table`.

    ScenarioError, PolicyError, StudyError for what cannot be run.
    """
    policies = list(dict.fromkeys(POLICIES if asked.policies == "all" else filter(None, asked.policies.split(","))))
    check_policies(policies)
    cases = cases_of(site, asked.scenarios, policies, asked.seed, asked.seeds, asked.seconds)
    results = Results(asked.results or default_folder())
    order = {(c.scenario.name, c.policy, c.seed): i for i, c in enumerate(cases)}
    runs: list[Run] = []
    complete = True
    try:
        for _, run in runs_of(cases, asked.where, results, say):
            runs.append(run)
    except KeyboardInterrupt:
        complete = False
        say(f"stopped after {len(runs)} of {len(cases)} runs; ask again to go on")
    runs.sort(key=lambda r: order[r["scenario"], r["policy"], r["seed"]])
    summary = conclude(runs, complete)
    if asked.html:
        write_report(asked.html, site, summary, cases, results)
    return summary | {"table": table(summary)}


def scenarios_of(site: Site, names: str, seed: int) -> list[tuple[Scenario, int]]:
    """Scenarios by name, file, `all`, `random:N` or `combined:N`, several with commas; the seed's offset beside each.

    Drawn ones have a plant of their own each. ScenarioError for a name that there is not, StudyError for none at all.
    """
    found: list[tuple[Scenario, int]] = []
    for name in filter(None, (n.strip() for n in names.split(","))):
        many = DRAWN.fullmatch(name)
        if name == "all":
            found += [(load_scenario(n), 0) for n in scenario_names()]
        elif many:
            found += [(drawn(site, many[1], seed, i), i) for i in range(int(many[2]))]
        else:
            found.append((by_name(site, name) or load_scenario(name), 0))
    if not found:
        raise StudyError("no scenario: give --scenario NAME, all, random:N or combined:N")
    return found


def cases_of(
    site: Site, names: str, policies: Sequence[str], seed: int, seeds: int, seconds: float | None
) -> list[Case]:
    """Every scenario with every seed and policy; `seconds` None is as long as each scenario lasts."""
    return [
        Case(site, scenario, policy, seed + offset + k, math.ceil(scenario.lasts_s if seconds is None else seconds))
        for scenario, offset in scenarios_of(site, names, seed)
        for k in range(seeds)
        for policy in policies
    ]


def total(runs: Sequence[Run]) -> dict[str, Any]:
    """Runs of one policy together; means over runs for shares, sums for counts."""
    held = [r for r in runs if r["held"]]
    hours = sum(r["duration_s"] for r in runs) / 3600.0
    return {
        "runs": len(runs),
        "held": len(held),
        "shown": sum(not r["missed"] for r in held),
        "trips": sum(r["trips"] for r in runs),
        "runs_with_trips": sum(r["trips"] > 0 for r in runs),
        "envelope_over_s": sum(r["envelope_over_s"] for r in runs),
        "beyond_deadline_s": sum(r["beyond_deadline_s"] for r in runs),
        "forced_down_racks": sum(r["forced_down_racks"] for r in runs),
        "gpu_shutdown_racks": sum(r["gpu_shutdown_racks"] for r in runs),
        "work_done": _mean(r["work_done"] for r in runs),
        "worst_gang_level": _mean(r["worst_gang_level"] for r in runs),
        "slo_miss": _mean(r["slo_miss"] for r in runs),
        "cap_moves_per_hour": sum(r["cap_moves"] for r in runs) / max(hours, 1e-9),
    }


def conclude(runs: Sequence[Run], complete: bool) -> dict[str, Any]:
    """All runs, those that could not be, and the totals by policy; `broken` is what headroom has not shown."""
    scored = [r for r in runs if "skipped" not in r and "failed" not in r]
    policies = dict.fromkeys(r["policy"] for r in scored)
    return {
        "complete": complete,
        "runs": scored,
        "skipped": [r for r in runs if "skipped" in r],
        "failed": [r for r in runs if "failed" in r],
        "policies": {p: total([r for r in scored if r["policy"] == p]) for p in policies},
        "broken": [f"{r['scenario']} {r['policy']} seed {r['seed']}: {m}" for r in scored for m in r["missed"]
                   if r["policy"] in OBJECTIVES],
    }  # fmt: skip


def table(summary: dict[str, Any]) -> list[str]:
    """Totals as lines of a table, a policy each; then what was not shown, skipped or failed."""
    rows = [("policy", *COLUMNS)]
    for policy, t in summary["policies"].items():
        shown = f"{t['shown']}/{t['held']}"
        counts = (t["runs"], shown, t["trips"], f"{t['envelope_over_s']:.0f}", f"{t['beyond_deadline_s']:.1f}")
        racks = (t["forced_down_racks"], t["gpu_shutdown_racks"])
        shares = (f"{t['work_done']:.4f}", f"{t['worst_gang_level']:.4f}", f"{t['slo_miss']:.4f}")
        rows.append((policy, *map(str, (*counts, *racks, *shares, f"{t['cap_moves_per_hour']:.0f}"))))
    wide = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, wide, strict=True)))
             for r in rows]  # fmt: skip
    lines += [f"not shown: {words}" for words in summary["broken"]]
    lines += [
        f"skipped: {words}" for words in dict.fromkeys(f"{r['scenario']}: {r['skipped']}" for r in summary["skipped"])
    ]
    return lines + [f"FAILED: {r['scenario']} {r['policy']} seed {r['seed']}: {r['failed']}" for r in summary["failed"]]


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0
