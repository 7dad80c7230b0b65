"""`headroom run`, its console and the operator's acts; the work is imported inside each command: --help is instant."""

import getpass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from controller import cli_records
from controller.console import cli as console

app = typer.Typer()
app.registered_commands += cli_records.app.registered_commands
app.registered_groups += cli_records.app.registered_groups
app.add_typer(console.app)

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
    listen: console.LISTEN = console.HERE,
    no_console: Annotated[bool, typer.Option("--no-console", help="Without the operator's console.")] = False,
    tls_cert: console.CERT = None,
    tls_key: console.KEY = None,
    behind_proxy: console.PROXY = False,
) -> None:
    """Run the controller of a site until Ctrl-C: read every device, cap every rack, each second; and its console."""
    from contextlib import ExitStack

    from controller import acts, view
    from controller.console.child import Child
    from controller.console.serve import ConsoleError
    from controller.frames import Mode
    from controller.process import ServiceError
    from controller.service import run as run_service
    from drivers.clock import RealClock
    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError

    try:
        found, note = resolve_site(site), ""
        with ExitStack() as stack:
            if not no_console:
                note = console.welcome(
                    acts.state_dir(found, state), console.where(listen, tls_cert, tls_key, behind_proxy)
                )
                args = _console_args(site, state, listen, tls_cert, tls_key, behind_proxy)
                stack.enter_context(Child("console", *args))
            stack.enter_context(view.log_lines())
            sink = stack.enter_context(view.sink(as_json, note))
            mode = Mode.SHADOW if shadow else Mode.LIVE
            run_service(found, RealClock(), mode, sink, state, stop_within, capture)
    except (SiteError, ServiceError, ConsoleError) as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"state directory {error.filename}: {error.strerror}; give another with --state")


def _console_args(
    site: str, state: Path | None, listen: str, cert: Path | None, key: Path | None, behind_proxy: bool
) -> list[str]:
    """The console's command line, as `run` was told."""
    named = {"--state": state, "--tls-cert": cert, "--tls-key": key}
    given = [part for name, value in named.items() if value is not None for part in (name, str(value))]
    return [site, "--listen", listen, *given, *["--behind-proxy"] * behind_proxy]


@app.command("status")
def status(site: SITE, as_json: JSON = False, state: STATE = None) -> None:
    """The running controller in one line, and its alarms."""
    from controller import view

    head = _newest(site, state)
    if as_json:
        _print_json({name: value for name, value in head.items() if name != "arrays"})
        return
    typer.echo(view.line(head))
    for line in _alarm_lines(head):
        typer.echo(line)


@app.command("alarms")
def alarms(site: SITE, as_json: JSON = False, state: STATE = None) -> None:
    """What needs a person now, gravest first. Exit code 1 where anything does."""
    head = _newest(site, state)
    lines = _alarm_lines(head)
    if as_json:
        _print_json({"alarms": head.get("alarm_list") or head["alarms"]})
    else:
        typer.echo("\n".join(lines or ["no alarms"]))
    raise typer.Exit(1 if lines else 0)


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


TARGET = Annotated[str, typer.Argument(metavar="RACK|JOB|NODE", help="Id of a rack, of a job, or of a node above.")]


@app.command("hold")
def hold(site: SITE, target: TARGET, state: STATE = None, why: WHY = "") -> None:
    """Keep the cap of a rack, of a job's racks, or of all racks below a node from rising."""
    _act(site, state, why, {"act": "hold"}, target)


@app.command("release")
def release(site: SITE, target: TARGET, state: STATE = None, why: WHY = "") -> None:
    """Let what is held rise again."""
    _act(site, state, why, {"act": "release"}, target)


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
    from urllib.parse import quote

    from controller import acts, answers, ask
    from controller.console import remote
    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError

    try:
        far = remote.from_environment()
        if far is not None and question["ask"] != "outage":
            rack = quote(str(question.get("rack", "")), safe="")
            path = f"/v1/racks/{rack}/explain" if rack else f"/v1/{question['ask']}"
            _print_reply(far.get(path + "?all=true" * bool(question.get("all"))), as_json)
            return
        site = resolve_site(name)
        long = question["ask"] == "outage"  # the controller gives its state for it, this process the time
        folder = acts.state_path(site, state)
        reply = ask.ask(folder, {"ask": "now"} if long else question)
        if reply is None:
            typer.echo(f"no controller found: looked in {folder}; another state directory: --state", err=True)
            reply = answers.answer(answers.by_design(site), question)
        elif long:
            reply = answers.answer(answers.by_state(site, reply), question)
    except (SiteError, answers.AskError, remote.RemoteError) as error:
        _fail(str(error))
    _print_reply(reply, as_json)


def _print_reply(reply: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(reply)
    else:
        typer.echo("\n".join([f"({reply['source']})", *reply["lines"]]))


def _print_json(thing: dict[str, Any]) -> None:
    import json

    typer.echo(json.dumps(thing, indent=1))


def _newest(name: str, state: Path | None) -> dict[str, Any]:
    """The newest cycle: by the API where the environment names a console, else from the controller on this machine."""
    from controller import acts
    from controller.console import remote
    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError

    try:
        far = remote.from_environment()
        return far.get("/v1/status") if far else remote.newest(acts.state_path(resolve_site(name), state))
    except (SiteError, remote.RemoteError) as error:
        _fail(str(error))


def _alarm_lines(head: dict[str, Any]) -> list[str]:
    listed = head.get("alarm_list")
    return head["alarms"] if listed is None else [f"{a['priority']} {a['state']}: {a['text']}" for a in listed]


def _act(name: str, state: Path | None, why: str, act: dict[str, Any], target: str = "") -> None:
    from controller import acts, ask
    from controller.act_kinds import target_of
    from controller.console import remote
    from drivers.clock import RealClock
    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError

    try:
        site = resolve_site(name)
        act |= target_of(site, target) if target else {}
        if far := remote.from_environment():
            done = far.act(act, why)
            typer.echo(f"written as {done['by']}; the controller takes it up within a second")
            return
        folder = acts.state_dir(site, state)
        acts.append(folder, site, RealClock(), getpass.getuser(), why, act)
    except (SiteError, acts.ActError, remote.RemoteError) as error:
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
