"""Terminal view of the feed: what an operator must see in five seconds."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TextIO, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from drivers.supervise import Outlet, OutletHandler, own_text

T = TypeVar("T")
FULL = 40  # width of a bar
LOG_LINES = 200  # that wait for a slow reader


def mw(watts: float | None) -> str:
    """Power in MW, or a dash for unknown."""
    return "-" if watts is None else f"{watts / 1e6:,.2f}"


def bar(share: float | None) -> Text:
    """A load bar: grey when normal, yellow from 97 %, red above the limit."""
    if share is None:
        return Text("no data", style="yellow")
    filled = min(FULL, max(0, round(share * FULL)))
    style = "red" if share > 1.0 else "yellow" if share > 0.97 else "grey70"
    return Text("█" * filled + "·" * (FULL - filled), style=style) + Text(f" {share:6.1%}")


def screen(frame: dict[str, Any], truth: dict[str, Any] | None = None, note: str = "") -> RenderableType:
    """The whole screen from one controller frame, beside it the plant's own truth when there is one; `note` on top."""
    parts: list[RenderableType] = [_head(frame, truth), _alarms(frame), _limits(frame)]
    if note:
        parts.insert(0, Text(note))
    if frame["jobs"]:
        parts.append(_jobs(frame))
    return Group(*parts)


def line(frame: dict[str, Any]) -> str:
    """One line a second for a log or a pipe."""
    return (
        f"cycle {frame['cycle']:6d}  {frame['mode']:6s}  load {mw(frame['load_w'])} of {mw(frame['envelope_w'])} MW  "
        f"caps {mw(frame['caps_w'])} MW  capped {frame['racks_capped']}/{frame['racks']}  "
        f"known {frame['racks_known']}  step {frame.get('step_ms', 0.0):.1f} ms  alarms {len(frame['alarms'])}"
    )


def _head(frame: dict[str, Any], truth: dict[str, Any] | None) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    share = None if frame["load_w"] is None else frame["load_w"] / frame["envelope_w"]
    by = f"  {escape(frame['envelope_by'])}" if frame["envelope_by"] else ""
    table.add_row("envelope", bar(share), f"{mw(frame['load_w'])} of {mw(frame['envelope_w'])} MW{by}")
    caps = f"caps {mw(frame['caps_w'])}  racks {mw(frame['racks_w'])}  wanted {mw(frame['demand_w'])} MW"
    table.add_row("racks", f"{frame['racks_capped']} of {frame['racks']} capped", caps)
    if truth is not None:
        cooling = f"cooling {mw(truth['cooling_w'])}  losses {mw(truth['losses_w'])} MW"
        table.add_row("plant", f"true load {mw(truth['site_power_w'])} MW", cooling)
    if frame["security"]:
        table.add_row("security", *_secured(frame["security"]))
    if frame["bottlenecks"]:
        table.add_row("one more kW", *_top(frame["bottlenecks"][0]))
    cycle = f"cycle {frame['cycle']}  step {frame.get('step_ms', 0.0):.1f} ms  late {frame.get('late_cycles', 0)}"
    table.add_row("control", frame["mode"].upper(), f"{cycle}  points/s {frame.get('points_per_s', 0.0):,.0f}")
    return Panel(table, title="Headroom", border_style="grey50")


def _secured(found: dict[str, Any]) -> tuple[RenderableType, str]:
    """How many losses are not secured, the worst of them, and how old the corrective sets are."""
    bad = found["not_secured"]
    names = ", ".join(v["id"] for v in found["worst"] if not v["secured"])
    age = "none yet" if found["sets_age_s"] is None else f"{found['sets_age_s']:.0f} s old"
    text = Text(f"{found['losses']:,} losses, {bad} not secured", style="yellow" if bad else "")
    more = ".." if bad > len(found["worst"]) else ""
    return text, escape(f"{names}{more}{'; ' if names else ''}corrective sets {age}")


def _top(found: dict[str, Any]) -> tuple[str, str]:
    """Where one more kW buys the most work."""
    gain = f"buys {found['work_per_kw']:.3g} racks' work"
    return gain, f"at {escape(found['name'])}; it holds {found['racks']} racks"


def _limits(frame: dict[str, Any]) -> RenderableType:
    table = Table(box=None, padding=(0, 2), header_style="grey70")
    for column in ("limit", "load", "", "MW"):
        table.add_column(column)
    for feed in frame["feeds"]:
        share = None if feed["load_w"] is None else feed["load_w"] / feed["limit_w"]
        table.add_row(feed["id"], bar(share), "", f"{mw(feed['load_w'])} / {mw(feed['limit_w'])}")
    for loop in frame["loops"]:
        supply = "-" if loop["supply_c"] is None else f"{loop['supply_c']:.1f} C"
        share = loop["heat_w"] / loop["limit_w"] if loop["limit_w"] > 0 else None
        table.add_row(loop["id"], bar(share), supply, f"{mw(loop['heat_w'])} / {mw(loop['limit_w'])}")
    return Panel(table, title="feeds and hottest loops", border_style="grey50")


def _jobs(frame: dict[str, Any]) -> RenderableType:
    table = Table(box=None, padding=(0, 2), header_style="grey70")
    for column in ("job", "level", "racks", "capped", "because"):
        table.add_column(column)
    for job in frame["jobs"]:
        table.add_row(
            escape(job["id"]), f"{job['level']:.3f}", str(job["racks"]), str(job["capped"]), escape(job["why"])
        )
    return Panel(table, title="jobs furthest below what they ask", border_style="grey50")


def _alarms(frame: dict[str, Any]) -> RenderableType:
    said = frame["alarms"]
    text = Text("\n".join(said), style="yellow") if said else Text("none", style="grey70")
    return Panel(text, title=f"alarms ({len(said)})", border_style="yellow" if said else "grey50")


@contextmanager
def sink(as_json: bool, note: str = "") -> Iterator[Callable[[dict[str, Any]], None]]:
    """Where frames go: JSON lines for a program, a live screen on a terminal, a line a second elsewhere.

    Taking a frame never waits: a paused terminal or a reader that is slow or gone misses frames, control does not.
    `note` stands on top of the screen, elsewhere it is told once on standard error.
    """
    outlet: Outlet[dict[str, Any]]
    if sys.stdout.isatty() and not as_json:
        outlet = Outlet(lambda: live(partial(screen, note=note)))
    else:
        if note:
            with suppress(OSError):
                print(note, file=sys.stderr, flush=True)
        outlet = Outlet(lambda: lines(compact if as_json else line))
    try:
        yield outlet.put
    finally:
        outlet.close()


@contextmanager
def lines(text: Callable[[T], str], stream: TextIO | None = None) -> Iterator[Callable[[T], None]]:
    """What writes one line for each thing, to a file of its own on `stream` (standard output)."""
    file = own_text(stream or sys.stdout)

    def show(thing: T) -> None:
        file.write(text(thing) + "\n")
        file.flush()

    with suppress(OSError), file:
        yield show


@contextmanager
def live(draw: Callable[[T], RenderableType]) -> Iterator[Callable[[T], None]]:
    """What draws each thing on the whole terminal; it touches no other stream, so that nobody waits for its locks."""
    file = own_text(sys.stdout)
    drawing = Live(
        console=Console(file=file, force_terminal=True),
        screen=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with suppress(OSError), file, drawing:
        yield lambda thing: drawing.update(draw(thing), refresh=True)


@contextmanager
def log_lines() -> Iterator[None]:
    """Log lines to standard error, through an outlet: a paused terminal stops no cycle that has something to log."""
    outlet: Outlet[str] = Outlet(lambda: lines(str, sys.stderr), LOG_LINES)
    handler = OutletHandler(outlet)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        outlet.close()


def compact(frame: dict[str, Any]) -> str:
    """One JSON line."""
    return json.dumps(frame, separators=(",", ":"))
