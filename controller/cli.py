"""`headroom run` and the operator's acts; the work is imported inside each command so that --help is instant."""

import getpass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from controller import cli_records

app = typer.Typer()
app.registered_commands += cli_records.app.registered_commands
app.registered_groups += cli_records.app.registered_groups

SITE = Annotated[str, typer.Argument(metavar="SITE", help="A site's directory, or a built-in site: colossus, hall.")]
STATE = Annotated[Path | None, typer.Option("--state", help="State directory; default: ~/.local/state/headroom.")]
JSON = Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")]
ALL = Annotated[bool, typer.Option("--all", help="Every line, not the first ones only.")]
WHY = Annotated[str, typer.Option("--why", help="Reason, kept with the act.")]


@app.command("run")
def run(
    site: SITE,
    shadow: Annotated[bool, typer.Option("--shadow", help="Compute and show, write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One frame a second as a JSON line.")] = False,
    state: STATE = None,
    stop_within: Annotated[
        float, typer.Option("--stop-within", metavar="SECONDS", help="Longest ramp to the safe caps at a stop.")
    ] = 60.0,
    capture: Annotated[
        Path | None,
        typer.Option("--capture", metavar="FILE", help="Also record what is heard and sent, 1 GB at most."),
    ] = None,
) -> None:
    """Run the controller of a site until Ctrl-C: read every device, cap every rack, each second."""
    from controller import view
    from controller.frames import Mode
    from controller.process import ServiceError
    from controller.service import run as run_service
    from drivers.clock import RealClock
    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError

    try:
        with view.log_lines(), view.sink(as_json) as sink:
            mode = Mode.SHADOW if shadow else Mode.LIVE
            run_service(resolve_site(site), RealClock(), mode, sink, state, stop_within, capture)
    except (SiteError, ServiceError) as error:
        _fail(str(error))


@app.command("envelope")
def envelope(
    site: SITE,
    mw: Annotated[str, typer.Argument(metavar="MW|release", help="New envelope, or `release` for the site's own.")],
    within: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Faster than the site's ramp where it must be.")
    ] = None,
    state: STATE = None,
    why: WHY = "",
) -> None:
    """Ask the running controller for a lower envelope, or release the one asked for."""
    try:
        value = None if mw == "release" else float(mw.replace("_", "x"))  # 5_0 is a slip, not fifty
    except ValueError:
        _fail(f"envelope {mw!r}: give megawatts, or `release`")
    _act(site, state, why, {"act": "envelope", "mw": value} | ({} if within is None else {"within_s": within}))


@app.command("mode")
def mode(
    site: SITE,
    name: Annotated[str, typer.Argument(metavar="MODE", help="live, hold, shadow or off.")],
    state: STATE = None,
    why: WHY = "",
) -> None:
    """Change the mode: hold renews and lowers only, shadow writes nothing, off ramps to the safe caps."""
    _act(site, state, why, {"act": "mode", "mode": name})


@app.command("hold")
def hold(site: SITE, rack: str, state: STATE = None, why: WHY = "") -> None:
    """Keep a rack's cap from rising."""
    _act(site, state, why, {"act": "hold", "rack": rack})


@app.command("release")
def release(site: SITE, rack: str, state: STATE = None, why: WHY = "") -> None:
    """Let a held rack rise again."""
    _act(site, state, why, {"act": "release", "rack": rack})


@app.command("setpoint", context_settings={"ignore_unknown_options": True})  # a value may be negative
def setpoint(
    site: SITE,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="A Modbus device of devices.csv.")],
    point: Annotated[str, typer.Argument(metavar="POINT", help="A point that its profile lets be written.")],
    value: Annotated[float, typer.Argument(metavar="VALUE", help="In the point's unit, as probe shows it.")],
    revert: Annotated[
        float | None, typer.Option("--revert", metavar="VALUE", help="What the device falls back to by itself ..")
    ] = None,
    after_s: Annotated[
        float | None, typer.Option("--after", metavar="SECONDS", min=1.0, help=".. after so long; where it can.")
    ] = None,
    state: STATE = None,
    why: WHY = "",
) -> None:
    """Have the running controller write one set-point, in LIVE only, and read it back. Exit 1 where it did not."""
    from controller import setpoint as asking
    from controller.acts import ActError
    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError
    from drivers.wires import SetpointCommand

    try:
        if (revert is None) != (after_s is None):
            _fail("give --revert and --after together")
        fall_back = None if revert is None or after_s is None else (revert, after_s)
        wanted = SetpointCommand(device, point, value, fall_back, by=getpass.getuser(), why=why)
        done, text = asking.ask(resolve_site(site), state, wanted)
    except (SiteError, ActError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"the act was not written: {error}")
    if not done:
        _fail(text)
    typer.echo(text)


@app.command("replay")
def replay(
    site: SITE,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording of `capture` or `run --capture`.")],
    serve: Annotated[bool, typer.Option("--serve", help="As Modbus TCP servers here, until Ctrl-C.")] = False,
    speed: Annotated[float, typer.Option(min=0.1, max=100.0, help="With --serve: times the recorded pace.")] = 1.0,
    port: Annotated[int, typer.Option(min=1, max=65535, help="With --site-out: TCP port of all servers.")] = 1502,
    site_out: Annotated[
        Path | None, typer.Option("--site-out", metavar="DIR", help="With --serve: write the site as served here.")
    ] = None,
    frames: Annotated[bool, typer.Option("--frames", help="A JSON line for each cycle, as run --json.")] = False,
    as_json: JSON = False,
) -> None:
    """Play a recording into the controller, and its orders against the recorded ones. Exit 1 where these differ."""
    from controller import replaying
    from drivers.capture.serve import ServeError
    from drivers.capture.tape import TapeError
    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError

    try:
        plan = resolve_site(site)
        if serve:
            replaying.serve(plan, file, speed, port, site_out, typer.echo)
        elif not replaying.into_controller(plan, file, typer.echo, frames=frames, as_json=as_json):
            raise typer.Exit(1)
    except (SiteError, TapeError, ServeError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or file}: {error.strerror}")


@app.command("explain")
def explain(
    site: SITE,
    rack: Annotated[str, typer.Argument(metavar="RACK", help="A rack's id.")],
    as_json: JSON = False,
    state: STATE = None,
) -> None:
    """Why a rack has its cap: the limit that binds it, what one more kW there gains, and the limit behind it."""
    _ask(site, state, as_json, {"ask": "explain", "rack": rack})


@app.command("bottlenecks")
def bottlenecks(site: SITE, every: ALL = False, as_json: JSON = False, state: STATE = None) -> None:
    """The site's full limits by price: where one more kW buys the most work, and which racks each holds."""
    _ask(site, state, as_json, {"ask": "bottlenecks", "all": every})


@app.command("contingencies")
def contingencies(site: SITE, every: ALL = False, as_json: JSON = False, state: STATE = None) -> None:
    """Every single loss: worst survivor, margin, time to a limit, whether it is secured and what would secure it."""
    _ask(site, state, as_json, {"ask": "contingencies", "all": every})


@app.command("outage")
def outage(
    site: SITE,
    element: Annotated[str, typer.Argument(metavar="ELEMENT", help="Id of a node, CDU, cooling unit or storage.")],
    as_json: JSON = False,
    state: STATE = None,
) -> None:
    """Before anyone switches an element out: who loses power, the caps, the losses no longer secured, the verdict."""
    _ask(site, state, as_json, {"ask": "outage", "element": element})


def _ask(name: str, state: Path | None, as_json: bool, question: dict[str, Any]) -> None:
    """Ask the running controller, or the site file where none runs, and print the answer."""
    import json

    from controller import acts, answers, ask
    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError

    try:
        site = resolve_site(name)
        long = question["ask"] == "outage"  # the controller gives its state for it, this process the time
        folder = acts.state_path(site, state)
        reply = ask.ask(folder, {"ask": "now"} if long else question)
        if reply is None:
            typer.echo(f"no controller found: looked in {folder}; another state directory: --state", err=True)
            reply = answers.answer(answers.by_design(site), question)
        elif long:
            reply = answers.answer(answers.by_state(site, reply), question)
    except (SiteError, answers.AskError) as error:
        _fail(str(error))
    if as_json:
        typer.echo(json.dumps(reply, indent=1))
        return
    typer.echo("\n".join([f"({reply['source']})", *reply["lines"]]))


def _act(name: str, state: Path | None, why: str, act: dict[str, Any]) -> None:
    from controller import acts, ask
    from drivers.clock import RealClock
    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError

    try:
        site = resolve_site(name)
        folder = acts.state_dir(site, state)
        acts.append(folder, site, RealClock(), getpass.getuser(), why, act)
    except (SiteError, acts.ActError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"the act was not written: {error}")
    if ask.listens(folder):
        typer.echo("written; the controller takes it up within a second")
    else:
        typer.echo(f"written, but no controller runs on {folder}: one that starts there takes it up; another: --state")
    if said := acts.warning(site, act):
        typer.echo(f"warning: {said}", err=True)


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(1)
