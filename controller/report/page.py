"""The report as one HTML file: no script, no network, legible in print."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from controller import history_query, journal, times
from controller.alarms import catalog
from controller.history_query import HistoryError
from controller.plots import Line, chart, key
from controller.report import tale
from controller.report.tale import Tale
from controller.words import duration
from drivers.site.model import Site

BINS = 480
ROWS = 200  # of a table; more are counted
STYLE = """
body{font:14px/1.45 system-ui,sans-serif;max-width:1180px;margin:24px auto;padding:0 16px;color:#1b1b1b}
h1{font-size:22px}h2{font-size:17px;margin-top:28px;border-bottom:1px solid #ccc}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:3px 8px;border-bottom:1px solid #e4e4e4;
vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}
svg text{font-size:9px;fill:#444}.grid{stroke:#e4e4e4}.event{stroke:#999;stroke-dasharray:2 2}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(480px,1fr));gap:12px}.bad{color:#a01010;font-weight:600}
"""


def write(site: Site, state: Path, from_ms: int, to_ms: int, now_ms: int) -> str:
    """The report of a span. JournalError where there is no journal that can be read."""
    reader = journal.open_read(state)
    told = tale.read(reader.entries(from_ms, to_ms), from_ms, to_ms)
    verdict = journal.verify(state)
    parts = [
        f"<h1>{escape(site.title)}: {_span(from_ms, to_ms)}</h1>",
        f"<p>Written {times.iso(now_ms)}; all times UTC. {_trust(verdict, told)}</p>",
        _summary(told),
        '<div class="plots">' + "".join(_plots(site, state, told)) + "</div>",
        _bound(told),
        _alarms(told),
        _acts(told),
        _runs(told),
    ]
    head = f'<meta charset="utf-8"><title>{escape(site.name)} {_span(from_ms, to_ms)}</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'


def _span(from_ms: int, to_ms: int) -> str:
    return f"{times.iso(from_ms)[:16]} to {times.iso(to_ms)[:16]}"


def _trust(verdict: journal.Verdict, told: Tale) -> str:
    if verdict.problems or told.unreadable:
        said = "; ".join([*verdict.problems, *[f"{told.unreadable} records unreadable"] * (told.unreadable > 0)])
        return f'<span class="bad">The journal is not whole: {escape(said)}</span>'
    return f"The journal is whole ({verdict.records:,} records, head {verdict.head[:24]}..)."


def _summary(told: Tale) -> str:
    f = tale.figures(told)
    lost = sum(int(x.get("records", 0)) for _, x in told.of("gap"))
    over = f"longest {duration(f['over_longest_s'])}, most {f['over_mw_max']:.2f} MW"
    load = f"{_figure(f['load_mw_max'])} MW most, {f['energy_mwh']:.1f} MWh"
    fall = f"-{_figure(f['ramp_down_mw_per_min'])} MW/min, of the 10 s mean"
    work = f"of what was asked; {f['work_lost_share_hours']:.3f} site hours lost to caps and limits"
    rows = (
        ("Within the envelope", _share(f["within_share"]), "of the time recorded"),
        ("Above the envelope", duration(f["over_s"]), over),
        ("Load", f"{_figure(f['load_mw_mean'])} MW mean", load),
        ("Steepest ramps", f"+{_figure(f['ramp_up_mw_per_min'])} MW/min", fall),
        ("Work", _share(f["work_mean"]), work),
        ("Racks capped", f"{f['capped_rack_hours']:.1f} rack hours", f"{f['caps_changed']:,.0f} changes of caps"),
        ("Recorded", _share(f["recorded_share"]), f"{len(told.t_ms):,} cycles, {lost} records lost"),
    )
    cells = "".join(f"<tr><th>{a}</th><td>{escape(b)}</td><td>{escape(c)}</td></tr>" for a, b, c in rows)
    return f"<h2>Summary</h2><table>{cells}</table>"


def _plots(site: Site, state: Path, told: Tale) -> list[str]:
    marks = _marks(told)
    wanted = (
        ("Load and envelope, MW", (("load_w", "load", 1e-6), ("envelope_w", "envelope", 1e-6)), False),
        ("Caps and demand of the racks, MW", (("caps_w", "caps", 1e-6), ("demand_w", "demand", 1e-6)), False),
        ("Work, share of what is asked", (("work", "work", 1.0),), False),
        ("Racks capped", (("capped", "capped", 1.0),), True),
    )
    out = []
    for title, columns, zero in wanted:
        lines = []
        for i, (column, name, scale) in enumerate(columns):
            values, bin_s = tale.bins(told, column, BINS)
            lines.append(Line(name, [None if v is None else v * scale for v in values], bin_s, i, i))
        out.append(_figure_of(title, lines, marks, told, zero))
    feeds = [n.id for n in site.nodes if n.kind in ("utility_feed", "substation")][:8]
    loops = [x.id for x in site.loops][:8]
    for title, owners, point, scale in (
        ("Feeds, MW", feeds, "power_w", 1e-6),
        ("Supply of the loops, C", loops, "supply_c", 1.0),
    ):
        found = _history(site, state, told, owners, point, scale)
        if found:
            out.append(_figure_of(title, found, marks, told, False))
    return out


def _marks(told: Tale) -> list[tuple[float, str]]:
    """Acts, and each grave alarm when it was raised first."""
    seen: dict[str, float] = {}
    for entry, x in told.of("alarm", "act"):
        if entry.kind == "act":
            name = f"{x['act']} {x.get('by', '')}"
        elif x["priority"] in ("critical", "high") and x["now"] == "unacknowledged":
            name = str(x["id"])
        else:
            continue
        seen.setdefault(name, (entry.at_ms - told.from_ms) / 1000.0)
    return [(t_s, name) for name, t_s in seen.items()]


def _figure_of(title: str, lines: Sequence[Line], marks: Sequence[tuple[float, str]], told: Tale, zero: bool) -> str:
    def moment(t_s: float) -> str:
        return times.clock(told.from_ms + round(1000 * t_s))[:5]

    drawn = chart(title, lines, marks, zero=zero, moment=moment)
    return f"<figure><figcaption>{escape(title)} {key(lines)}</figcaption>{drawn}</figure>"


def _history(site: Site, state: Path, told: Tale, owners: Sequence[str], point: str, scale: float) -> list[Line]:
    """Curves of some elements' points, as far as there is history."""
    device = {d.measures: d.id for d in site.devices}
    bin_s = max((told.to_ms - told.from_ms) / 1000.0 / BINS, 1.0)
    lines = []
    for i, owner in enumerate(x for x in owners if x in device):
        try:
            found = history_query.query(state, f"{device[owner]}.{point}", told.from_ms, told.to_ms, bin_s)
        except (HistoryError, OSError):
            continue
        values: list[float | None] = [None] * int(np.ceil((told.to_ms - told.from_ms) / 1000.0 / found.resolution_s))
        at = ((found.t_ms - told.from_ms) / 1000.0 / found.resolution_s).astype(int)
        for where, value in zip(at.tolist(), found.mean.tolist(), strict=True):
            if 0 <= where < len(values) and np.isfinite(value):
                values[where] = value * scale
        if any(v is not None for v in values):
            lines.append(Line(owner, values, found.resolution_s, i, i))
    return lines


def _bound(told: Tale) -> str:
    rows = [(escape(name), f"{seconds / 3600.0:.2f}") for name, seconds in told.bound.most_common(20)]
    return _table("What bound the site", ("limit", "rack hours held"), rows, "Nothing held a rack below its demand.")


def _alarms(told: Tale) -> str:
    lives = tale.alarms(told)
    kinds = catalog()
    rows = []
    for x in lives[:ROWS]:
        kind = kinds.get(x.id.partition("/")[0])
        first = " (first)" if x.first_out else ""
        rows.append((
            times.clock(x.first_ms), escape(x.priority), escape(x.id) + first, escape(x.text), str(x.raised),
            duration(x.active_s), escape(x.acked_by), escape(kind.response if kind else ""),
        ))  # fmt: skip
    names = ("first", "priority", "alarm", "text", "raised", "active", "acknowledged by", "response")
    table = _table("Alarms", names, rows, "No alarms.")
    return table + (f"<p>{len(lives) - ROWS} more are in the journal.</p>" if len(lives) > ROWS else "")


def _acts(told: Tale) -> str:
    rows = []
    for entry, act in told.of("act")[-ROWS:]:
        what = " ".join(f"{k}={v}" for k, v in act.items() if k not in ("at_ms", "by", "why", "ends", "act"))
        rows.append((
            times.clock(int(act.get("at_ms", entry.at_ms))), escape(str(act.get("by", ""))),
            escape(f"{act.get('act', '')} {what}"), escape(str(act.get("why", ""))),
        ))  # fmt: skip
    return _table("What people did", ("time", "who", "what", "why"), rows, "Nobody asked for anything.")


def _runs(told: Tale) -> str:
    rows = [
        (times.clock(e.at_ms), e.kind, escape(", ".join(f"{k} {v}" for k, v in x.items() if k != "racks")))
        for e, x in told.of("start", "stop", "mode", "gap")[:ROWS]
    ]
    return _table("Starts, stops and modes", ("time", "what", ""), rows, "None: it ran all the time in one mode.")


def _table(title: str, names: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> str:
    if not rows:
        return f"<h2>{title}</h2><p>{nothing}</p>"
    head = "".join(f"<th>{name}</th>" for name in names)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<h2>{title}</h2><table><tr>{head}</tr>{lines}</table>"


def _share(value: float) -> str:
    return "unknown" if np.isnan(value) else f"{100.0 * value:.2f} %"


def _figure(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"
