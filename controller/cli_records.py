"""`headroom journal|history|report`: what a controller left behind; the work is imported inside each command."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

app = typer.Typer()
journal = typer.Typer(no_args_is_help=True, help="What was ordered, asked and said: verify, show, export.")
app.add_typer(journal, name="journal")

SITE = Annotated[str, typer.Argument(metavar="SITE", help="A site's directory, or a built-in site: colossus, hall.")]
STATE = Annotated[Path | None, typer.Option("--state", help="State directory; default: ~/.local/state/headroom.")]
JSON = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
FROM = Annotated[str, typer.Option("--from", metavar="TIME", help="2026-11-25T06:00 (UTC), -8h, -30m.")]
TO = Annotated[str, typer.Option("--to", metavar="TIME", help="The same, or now.")]
KIND = Annotated[list[str] | None, typer.Option("--kind", help="orders, act, alarm, mode, start, stop, gap; again.")]
ALWAYS = "1970-01-02"


@journal.command("verify")
def verify(
    site: SITE,
    head: Annotated[str | None, typer.Option(metavar="NUMBER:HASH", help="A head kept from an earlier run.")] = None,
    as_json: JSON = False,
    state: STATE = None,
) -> None:
    """Whether every record is what was written and none is missing; exit code 1 where not. Keep the head it prints."""
    import json
    from dataclasses import asdict

    from controller.journal import verify

    found = verify(_folder(site, state), head)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=1))
    else:
        whole = "whole" if not found.problems else "NOT WHOLE"
        typer.echo(f"{whole}: {found.records:,} records from {found.first}, head {found.head}")
        for problem in found.problems:
            typer.echo(problem, err=True)
    if found.problems:
        raise typer.Exit(1)


@journal.command("show")
def show(
    site: SITE,
    last: Annotated[int, typer.Option(min=1, help="So many of the newest.")] = 50,
    kind: KIND = None,
    since: FROM = ALWAYS,
    until: TO = "now",
    state: STATE = None,
) -> None:
    """The newest records, a line each."""
    from controller.journal import JournalError, open_read
    from controller.journal.lines import line

    try:
        reader = open_read(_folder(site, state))
        for entry in reader.entries(*_span(since, until), tuple(kind or ()), last):
            typer.echo(line(entry))
    except JournalError as error:
        _fail(str(error))


@journal.command("export")
def export(site: SITE, kind: KIND = None, since: FROM = ALWAYS, until: TO = "now", state: STATE = None) -> None:
    """Every record as a JSON line, caps and reasons of each changed rack included."""
    from controller.journal import JournalError, open_read
    from controller.journal.lines import exported

    try:
        reader = open_read(_folder(site, state))
        for text in exported(reader, *_span(since, until), tuple(kind or ())):
            typer.echo(text)
    except JournalError as error:
        _fail(str(error))


@journal.command("alarms")
def alarms(
    site: SITE,
    as_json: JSON = False,
    state: STATE = None,
) -> None:
    """The alarms that stand or are set aside, as CSV or JSON, also while no controller runs."""
    import json

    from controller.alarms import Board, keep, listing
    from drivers.clock import RealClock

    clock, board = RealClock(), Board()
    keep.restore(board, keep.read(_folder(site, state)), clock.now_s(), clock.wall_ms())
    listed = listing([*board.listed(), *board.aside()])
    typer.echo(json.dumps(listed, indent=1) if as_json else keep.as_csv(listed), nl=as_json)


@app.command("history")
def history(
    site: SITE,
    point: Annotated[str, typer.Argument(help="DEVICE.POINT, or RACK.agent.POINT; empty lists them.")] = "",
    since: FROM = "-1h",
    until: TO = "now",
    resolution_s: Annotated[
        float | None, typer.Option("--resolution", min=1.0, metavar="SECONDS", help="Default: 1,000 values.")
    ] = None,
    as_json: JSON = False,
    state: STATE = None,
) -> None:
    """One point over time: least, mean and most of each step, and its worst quality."""
    import json

    from controller import times
    from controller.history_query import HistoryError, points, query
    from drivers.points import Quality

    folder, (from_ms, to_ms) = _folder(site, state), _span(since, until)
    if not point:
        names = points(folder)
        typer.echo(json.dumps(names) if as_json else "\n".join(names))
        return
    try:
        found = query(folder, point, from_ms, to_ms, resolution_s or max(1.0, (to_ms - from_ms) / 1e6))
    except HistoryError as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps(found.to_dict(), allow_nan=False))
        return
    rows = zip(found.t_ms.tolist(), found.low, found.mean, found.high, found.quality.tolist(), strict=True)
    for at_ms, low, mean, high, quality in rows:
        typer.echo(f"{times.iso(at_ms)}  {low:12.6g} {mean:12.6g} {high:12.6g}  {Quality(quality).name.lower()}")


@app.command("report")
def report(
    site: SITE,
    since: FROM = "-8h",
    until: TO = "now",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Default: SITE-report.html here; -: print it.")
    ] = None,
    state: STATE = None,
) -> None:
    """A shift's or an event's report, one HTML file: envelope, ramps, caps, work lost, what bound, alarms, acts."""
    from controller import acts
    from controller.journal import JournalError
    from controller.report import write
    from drivers.clock import RealClock
    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError

    try:
        what = resolve_site(site)
        text = write(what, acts.state_path(what, state), *_span(since, until), RealClock().wall_ms())
        target = out or Path(f"{what.name}-report.html")
        if str(target) == "-":
            typer.echo(text, nl=False)
            return
        target.write_text(text, encoding="utf-8")
    except (SiteError, JournalError, OSError) as error:
        _fail(str(error))
    typer.echo(f"written: {target}")


def _folder(name: str, state: Path | None) -> Path:
    from controller import acts
    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError

    if state is not None:
        return state
    try:
        return acts.state_path(resolve_site(name))
    except SiteError as error:
        _fail(str(error))


def _span(since: str, until: str) -> tuple[int, int]:
    from controller.times import parse_ms
    from drivers.clock import RealClock

    now_ms = RealClock().wall_ms()
    try:
        span = parse_ms(since, now_ms), parse_ms(until, now_ms)
    except ValueError as error:
        _fail(str(error))
    if span[0] >= span[1]:
        _fail(f"from {since} to {until} is no time: the first must be earlier")
    return span


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(1)
