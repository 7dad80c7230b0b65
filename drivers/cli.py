"""The `headroom` command: joins the commands of the three packages; the work is imported inside each command."""

from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NoReturn

import typer

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Power and cooling control plane for AI data centers."
)
site_app = typer.Typer(no_args_is_help=True, help="Describe and check a site.")
app.add_typer(site_app, name="site")

INFINITE = float("inf")
UNTIL = "How long; else until Ctrl-C."
WHICH = "A site's directory, or a built-in site: colossus, hall."


@site_app.command("check")
def check(
    path: Annotated[str, typer.Argument(metavar="PATH", help=WHICH)],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """List every problem of a site: file, line, what is wrong, what to do. Exit 1 on any."""
    import json

    from drivers.check import check_path
    from drivers.profile import load_profiles
    from drivers.site.problems import SiteError

    try:
        problems = check_path(path, load_profiles())
    except SiteError as error:
        problems = error.problems
    if as_json:
        rows = [{"file": p.file, "line": p.line, "what": p.what, "fix": p.fix} for p in problems]
        typer.echo(json.dumps({"site": path, "problems": rows}, indent=1))
    else:
        for problem in problems:
            typer.echo(str(problem))
        typer.echo(f"{path}: {len(problems) or 'no'} problem{'s' if len(problems) != 1 else ''}")
    if problems:
        raise typer.Exit(1)


@site_app.command("new")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="colossus or hall.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")],
) -> None:
    """Write a reference site's files, to start from."""
    from drivers.site.problems import did_you_mean
    from drivers.site.reference import SITES
    from drivers.site.write import write_site

    if name not in SITES:
        _fail(f"there is no site '{name}'. " + did_you_mean(name, SITES, "Known: " + ", ".join(SITES)))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        _fail(f"{folder} is not an empty directory; nothing was written. Give a new one, or empty it first")
    try:
        write_site(SITES[name](), folder)
    except OSError as error:
        _fail(f"{folder} cannot be written: {error.strerror}")
    typer.echo(f"wrote {name} to {folder}; check it with: headroom site check {folder}")


@app.command("probe")
def probe(
    site: Annotated[str, typer.Argument(metavar="SITE", help=WHICH)],
    devices: Annotated[list[str] | None, typer.Argument(metavar="[DEVICE]...", help="Devices; default: all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Also a row for each point, to this file.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Also a page to sign, to this file.")] = None,
) -> None:
    """Read every point of Modbus devices: raw words, value, range, verdict, time. Exit 1 where anything is wrong."""
    import asyncio
    import json
    from datetime import UTC, datetime

    from drivers.clock import RealClock
    from drivers.probe import report, walk
    from drivers.profile import load_profiles
    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError, did_you_mean

    try:
        plan = resolve_site(site)
    except SiteError as error:
        _fail(str(error))
    names = [d.id for d in plan.devices]
    for name in devices or ():
        if name not in names:
            _fail(f"there is no device '{name}'. " + did_you_mean(name, names, "devices.csv lists them"))
    checks = asyncio.run(walk.probe(plan, load_profiles(), devices or ()))
    mqtt = sum(d.protocol != "modbus_tcp" and (not devices or d.id in devices) for d in plan.devices)
    try:
        if csv_file:
            csv_file.write_text(report.as_csv(checks), encoding="utf-8")
        if html_file:
            at = datetime.fromtimestamp(RealClock().wall_ms() / 1000, UTC).astimezone().isoformat(" ", "minutes")
            html_file.write_text(report.as_html(checks, f"{plan.title}: point check", at), encoding="utf-8")
    except OSError as error:
        _fail(f"{error.filename} cannot be written: {error.strerror}")
    if as_json:
        typer.echo(json.dumps(report.as_json(checks) | {"on_mqtt": mqtt}, indent=1, allow_nan=False))
    else:
        for line in report.as_text(checks, points=bool(devices)):
            typer.echo(line)
        if mqtt:
            typer.echo(f"{mqtt} devices on MQTT were not asked: they only speak by themselves")
    if any(check.findings for check in checks):
        raise typer.Exit(1)


@app.command("scan")
def scan(
    address: Annotated[str, typer.Argument(metavar="HOST[:PORT]", help="A device or gateway; port 502 unless told.")],
    units: Annotated[str, typer.Option(help="Unit ids to try: FIRST-LAST.")] = "1-247",
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.05, max=10.0, help="Wait for each unit [s].")] = 0.5,
    pace_s: Annotated[float, typer.Option("--pace", min=0.0, max=5.0, help="Rest between questions [s].")] = 0.02,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Find who answers at an address and which profiles fit. Only reads, one question at a time. Exit 1: nobody."""
    import asyncio
    import json
    from dataclasses import asdict

    from drivers.clock import RealClock
    from drivers.modbus.ask import NoAnswerError
    from drivers.probe.scan import parse_address, parse_units, scan
    from drivers.profile import load_profiles

    try:
        host, port = parse_address(address)
        numbers = parse_units(units)
        found = asyncio.run(scan(host, port, numbers, load_profiles(), RealClock(), timeout_s, pace_s))
    except (ValueError, NoAnswerError) as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps({"address": f"{host}:{port}", "units": [asdict(f) for f in found]}, indent=1))
    else:
        for unit in found:
            typer.echo(str(unit))
        typer.echo(f"{host}:{port}: {len(found) or 'no'} unit{'s' if len(found) != 1 else ''} of {len(numbers)} tried")
    if not found:
        raise typer.Exit(1)


@app.command("capture")
def capture(
    site: Annotated[str, typer.Argument(metavar="SITE", help=WHICH)],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file: one JSON line for each exchange.")],
    for_s: Annotated[float, typer.Option("--for", metavar="SECONDS", min=0.1, help=UNTIL)] = INFINITE,
    most_mb: Annotated[float, typer.Option("--max-mb", min=1.0, help="At most, then the older half goes.")] = 1000.0,
    every_point: Annotated[bool, typer.Option("--every-point", help="Also the points that only probe reads.")] = False,
    mqtt: Annotated[bool, typer.Option(help="Also what agents, the BMS and a controller say.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="The sum as one JSON object.")] = False,
) -> None:
    """Record what a site's devices say, to play it back with `replay`. Only reads: a poll more for each device."""
    import asyncio
    import json

    from drivers.capture.session import capture
    from drivers.clock import RealClock
    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError

    try:
        plan = resolve_site(site)
        said = asyncio.run(capture(plan, file, RealClock(), for_s, most_mb, mqtt, every_point))
    except SiteError as error:
        _fail(str(error))
    except FileExistsError:
        _fail(f"{file} is there already; give a new name")
    except OSError as error:
        _fail(f"{file} cannot be written: {error.strerror}")
    typer.echo(json.dumps(vars(said), indent=1) if as_json else str(said))


@app.command("watch")
def watch(
    site: Annotated[str, typer.Argument(metavar="SITE", help=WHICH)],
    points: Annotated[list[str], typer.Argument(metavar="POINT...", help="DEVICE.POINT as probe names them; * and ?.")],
    every_s: Annotated[
        float, typer.Option("--every", min=0.1, max=3600.0, help="Shortest time between lines of a point [s].")
    ] = 1.0,
    for_s: Annotated[float, typer.Option("--for", metavar="SECONDS", min=0.1, help=UNTIL)] = INFINITE,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Live values of some points with quality and age: a line for each when it changes. Only reads."""
    import asyncio

    from drivers.clock import RealClock
    from drivers.probe.watch import UnknownPointError, watch
    from drivers.profile import load_profiles
    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError

    try:
        plan = resolve_site(site)
        asyncio.run(watch(plan, load_profiles(), points, RealClock(), typer.echo, every_s, for_s, as_json=as_json))
    except (SiteError, UnknownPointError) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        return


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(1)


def joined() -> typer.Typer:
    """One app with the commands of every installed package (entry-point group `headroom`)."""
    whole = typer.Typer(no_args_is_help=True, add_completion=False, help=app.info.help)
    for point in sorted(entry_points(group="headroom"), key=lambda p: p.name):
        if find_spec(point.module) is None:
            continue  # a rack agent's installation carries the drivers only
        part = app if point.name == "drivers" else point.load()
        whole.registered_commands += part.registered_commands
        whole.registered_groups += part.registered_groups
    return whole


def main() -> None:
    """Entry point of the `headroom` command."""
    joined()()
