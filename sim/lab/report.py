"""A study as one HTML file: totals, every run's scores, and what an engineer wants to see of each scenario."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from controller.plots import Line, chart, key
from drivers.site.model import Site
from sim.lab.study import Case, Results, Run
from sim.plant.events import Scenario

SHOWN = 60  # scenarios with plots; what was not shown comes first
Charts = tuple[tuple[str, tuple[tuple[str, str], ...], bool], ...]
CHARTS: Charts = (
    ("Site power and envelope, MW", (("site_mw", ""), ("envelope_mw", "envelope")), False),
    ("Caps in force and demand of the racks, MW", (("cap_mw", ""), ("demand_mw", "demand")), False),
    ("Work, share of what is asked", (("work", ""),), False),
    ("Warmest coolant: CDU supply and loop return, C", (("supply_c", "supply"), ("return_c", "return")), False),
    ("Hottest silicon, C", (("silicon_c", ""),), False),
    ("Nearest protection: load over rating, and way to a trip", (("worst_load", "load"), ("trip_state", "trip")), True),
    ("Racks throttled, shed and dark", (("throttled", "throttled"), ("shed", "shed"), ("dark", "dark")), True),
)
COMMON = ("envelope_mw", "demand_mw")  # alike for all policies: drawn once, in black
TOTALS = (
    ("runs", "runs", "d"),
    ("shown", "outcome shown", "d"),
    ("trips", "trips", "d"),
    ("envelope_over_s", "over envelope, s", ".1f"),
    ("beyond_deadline_s", "beyond a deadline, s", ".1f"),
    ("forced_down_racks", "racks forced down", "d"),
    ("work_done", "work done", ".4f"),
    ("worst_gang_level", "worst gang", ".4f"),
    ("slo_miss", "SLO missed", ".4f"),
    ("cap_moves_per_hour", "cap moves an hour", ".0f"),
)
SCORES = (
    ("work_done", "work", ".4f"),
    ("worst_gang_level", "worst gang", ".4f"),
    ("trips", "trips", "d"),
    ("envelope_over_s", "over envelope, s", ".2f"),
    ("envelope_over_mw_max", "by MW", ".3f"),
    ("envelope_used", "envelope used", ".4f"),
    ("beyond_deadline_s", "beyond deadline, s", ".2f"),
    ("breaker_margin_min_s", "least time to a trip, s", ".0f"),
    ("gpu_throttle_rack_s", "throttled, rack s", ".0f"),
    ("gpu_shutdown_racks", "racks shut down", "d"),
    ("racks_dark", "dark", "d"),
    ("slo_miss", "SLO missed", ".4f"),
    ("cap_moves", "cap moves", "d"),
    ("ramp_max_mw_per_min", "ramp, MW/min", ".2f"),
    ("recovery_s", "recovery, s", ".0f"),
    ("energy_mwh", "MWh", ".3f"),
    ("pue_like", "PUE-like", ".4f"),
)
STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:1.5em auto;max-width:1180px;padding:0 1em;color:#111;background:#fff}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em;border-top:1px solid #ccc;padding-top:.8em}
table{border-collapse:collapse;font-size:12.5px;margin:.6em 0;font-variant-numeric:tabular-nums}
th,td{padding:.15em .55em;text-align:right;border-bottom:1px solid #e3e3e3}
th:first-child,td:first-child{text-align:left}
.bad{background:#ffe3df}.grid2{display:grid;grid-template-columns:repeat(auto-fill,minmax(480px,1fr));gap:.8em}
figure{margin:0}figcaption{font-size:12.5px;font-weight:600}svg{width:100%;height:auto}span svg{width:22px;height:8px}
svg text{font:9px system-ui,sans-serif;fill:#333}.grid{stroke:#e6e6e6}line.event{stroke:#888;stroke-dasharray:3 2}
svg text.event{fill:#666;font-size:8px}p.key{font-size:12.5px}p.key span{margin-right:1em;white-space:nowrap}
.wide{overflow-x:auto}
"""


def write_report(path: Path, site: Site, summary: dict[str, Any], cases: Sequence[Case], results: Results) -> None:
    """Write the report of a study; traces are read from the finished runs one by one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(_page(site, summary, cases, results))


def _page(site: Site, summary: dict[str, Any], cases: Sequence[Case], results: Results) -> Iterator[str]:
    title = f"Study of {site.title or site.name}"
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    yield f"<h1>{escape(title)}</h1><p>{len(summary['runs'])} runs. All figures by the plant's own truth.</p>"
    if not summary["complete"]:
        yield '<p class="bad">The study was stopped: runs are missing.</p>'
    yield _totals(summary["policies"])
    for words in summary["broken"]:
        yield f'<p class="bad">not shown: {escape(words)}</p>'
    for run in summary["failed"]:
        yield f'<pre class="bad">{escape(run["scenario"])} {escape(run["policy"])}: {escape(run["failed"])}</pre>'
    for words in dict.fromkeys(f"{r['scenario']}: {r['skipped']}" for r in summary["skipped"]):
        yield f"<p>skipped: {escape(words)}</p>"
    groups = _groups(summary["runs"])
    ranked = sorted(groups, key=lambda k: not any(r["missed"] for r in groups[k]))
    if len(groups) > SHOWN:
        yield f"<p>{SHOWN} of {len(groups)} are shown here, those that missed something first.</p>"
    index = {(c.scenario.name, c.policy, c.seed): c for c in cases}
    for name, seed in ranked[:SHOWN]:
        runs = groups[name, seed]
        yield from _section(runs, [index[name, r["policy"], seed] for r in runs], results)


def _totals(policies: dict[str, dict[str, Any]]) -> str:
    head = "".join(f"<th>{escape(words)}</th>" for _, words, _ in TOTALS)
    body = "".join(
        f"<tr><td>{escape(p)}</td>" + "".join(f"<td>{t[name]:{form}}</td>" for name, _, form in TOTALS) + "</tr>"
        for p, t in policies.items()
    )
    return f'<div class="wide"><table><tr><th>policy</th>{head}</tr>{body}</table></div>'


def _groups(runs: Sequence[Run]) -> dict[tuple[str, int], list[Run]]:
    """Runs of one scenario and seed together: policies beside each other."""
    groups: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        groups.setdefault((run["scenario"], run["seed"]), []).append(run)
    return groups


def _section(runs: Sequence[Run], cases: Sequence[Case], results: Results) -> Iterator[str]:
    """Scores and plots of one scenario and seed."""
    scenario, seed = cases[0].scenario, cases[0].seed
    yield f'<h2 id="{escape(scenario.name)}-{seed}">{escape(scenario.name)}: {escape(scenario.title)}, seed {seed}</h2>'
    yield _scores(runs)
    traces = {c.policy: run["trace"] for c in cases if (run := results.get(c)) is not None}
    events = happenings(scenario)
    yield f'<p class="key">{key([Line(p, (), 1.0, colour=i) for i, p in enumerate(traces)])}</p><div class="grid2">'
    for title, columns, zero in CHARTS:
        lines = _lines(traces, columns)
        named = [Line(word, (), 1.0, colour=7, dash=j) for j, (_, word) in enumerate(columns) if word]
        legend = f'<span class="key"> {key(named)}</span>' if named else ""
        drawing = chart(title, lines, events, zero=zero)
        yield f"<figure><figcaption>{escape(title)}{legend}</figcaption>{drawing}</figure>"
    yield "</div>"


def _lines(traces: dict[str, dict[str, Any]], columns: tuple[tuple[str, str], ...]) -> list[Line]:
    lines = []
    for j, (column, _) in enumerate(columns):
        for i, (policy, trace) in enumerate(traces.items()):
            if column in COMMON:
                if i == 0:
                    lines.append(Line(column, trace["columns"][column], trace["bin_s"], colour=7, dash=j))
                continue
            lines.append(Line(policy, trace["columns"][column], trace["bin_s"], colour=i, dash=j))
    return lines


def _scores(runs: Sequence[Run]) -> str:
    """A row a policy; what the outcome does not allow is marked."""
    head = "".join(f"<th>{escape(words)}</th>" for _, words, _ in SCORES)
    rows = []
    for run in runs:
        missed = {words.split(" ", 1)[0] for words in run["missed"]}
        cells = []
        for name, _, form in SCORES:
            value = "-" if run[name] is None else f"{run[name]:{form}}"
            cells.append(f"<td{' class=' + chr(34) + 'bad' + chr(34) if name in missed else ''}>{value}</td>")
        rows.append(f"<tr><td>{escape(run['policy'])}</td>{''.join(cells)}</tr>")
    return f'<div class="wide"><table><tr><th>policy</th>{head}</tr>{"".join(rows)}</table></div>'


def happenings(scenario: Scenario) -> list[tuple[float, str]]:
    """What begins and ends in a scenario after its start, in words."""
    said: list[tuple[float, str]] = []
    for event in scenario.events:
        if event.at_s <= 0.0:
            continue
        what = next((str(v) for n in ("id", "kind", "measures", "jobs", "how") if (v := getattr(event, n, ""))), "")
        name = f"{event.do} {what}".strip().replace("_", " ")
        said.append((event.at_s, name))
        for_s = getattr(event, "for_s", 0.0)
        if for_s:
            said.append((event.at_s + for_s, f"end of {name}"))
    return sorted(said)
