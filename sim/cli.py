"""Commands of the simulated plant; the work is imported inside each command."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command("sim")
def sim(
    site: Annotated[str, typer.Argument(metavar="SITE", help="A site's directory, or colossus, hall.")],
    scenario: Annotated[str, typer.Option(help="A scenario's name, or a YAML file.")] = "steady",
    speed: Annotated[float, typer.Option(min=0.1, max=20.0, help="Plant seconds per second.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal plants.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object of the truth every second.")] = False,
    control: Annotated[
        Path | None, typer.Option(metavar="SOCKET", help="Local socket on which scenarios can be started.")
    ] = None,
) -> None:
    """Run a simulated plant behind real Modbus TCP and MQTT, until Ctrl-C."""
    import asyncio
    import logging

    import uvloop

    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError
    from sim.plant.base import PlantError
    from sim.scenarios import ScenarioError, load_scenario, untaken
    from sim.serve.modbus import PortTakenError
    from sim.serve.service import serve

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        plan = resolve_site(site), load_scenario(scenario)
        _warn(untaken(plan[1]))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(*plan, seed=seed, speed=speed, as_json=as_json, control=control))
    except (SiteError, ScenarioError, PlantError, PortTakenError) as error:
        typer.echo(str(error.strerror if isinstance(error, PortTakenError) else error), err=True)
        raise typer.Exit(1) from error


@app.command("demo")
def demo(
    site: Annotated[str, typer.Option(help="hall, colossus, or a site's directory.")] = "hall",
    scenario: Annotated[str, typer.Option(help="A scenario's name, or a YAML file.")] = "surge",
    for_s: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", help="Stop after this long; default: Ctrl-C.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal plants.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as one JSON object.")] = False,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT|none", help="Where the operator's console listens.")
    ] = "127.0.0.1:8600",
) -> None:
    """Broker, plant, controller and console together, live; a summary by the plant's own truth at the end."""
    import json

    from controller.console.serve import ConsoleError
    from drivers.site.problems import SiteError
    from sim.lab.broker import BrokerError
    from sim.lab.demo import DemoError, run_demo
    from sim.scenarios import ScenarioError, load_scenario, untaken

    try:
        _warn(untaken(load_scenario(scenario)))
        summary = run_demo(site, scenario, seed, for_s, as_json, listen)
    except (SiteError, ScenarioError, BrokerError, DemoError, ConsoleError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
    else:
        for name, value in summary.items():
            typer.echo(f"{name:28s} {value if not isinstance(value, float) else f'{value:.4g}'}")


@app.command("drill")
def drill(
    site: Annotated[str, typer.Argument(metavar="SITE", help="A site's directory, or colossus, hall.")],
    losses: Annotated[int, typer.Option(min=1, help="How many elements to lose, of each kind as many.")] = 200,
    kind: Annotated[list[str] | None, typer.Option(help="Only elements of this kind; may be given again.")] = None,
    disobedient: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="Again with this share of racks ignoring their caps; 0: not.")
    ] = 0.05,
    seconds: Annotated[float, typer.Option(min=10.0, help="Longest time after a source came or went.")] = 150.0,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal drills.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: runs and summary.")] = False,
) -> None:
    """Lose elements in the simulated plant at full demand, each in turn; exit code 1 where a secured loss was not."""
    import json

    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError
    from sim.lab.branch import BranchError
    from sim.lab.drill import Options, run_drill
    from sim.lab.losses import LossError
    from sim.lab.tally import table
    from sim.plant.base import PlantError

    options = Options(losses, tuple(kind or ()), disobedient, seconds, seed, jobs)
    try:
        result = run_drill(resolve_site(site), options, partial(typer.echo, err=True))
    except (SiteError, LossError, PlantError, BranchError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    summary = result["summary"]
    typer.echo(json.dumps(result, indent=1) if as_json else "\n".join(table(summary)))
    if not summary["complete"]:
        raise typer.Exit(130)
    if summary["broken"]:
        raise typer.Exit(1)


@app.command("study")
def study(
    site: Annotated[str, typer.Argument(metavar="SITE", help="A site's directory, or colossus, hall.")],
    scenario: Annotated[
        str, typer.Option(help="Name, YAML file, all, random:N, combined:N, random-SEED-NUMBER; several with commas.")
    ] = "all",
    policy: Annotated[
        str, typer.Option(help="fair, throughput, a rival, all, package.module:Class; with commas.")
    ] = "fair",
    seed: Annotated[int, typer.Option(min=0, help="First seed; equal seeds give equal runs.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, each scenario with each.")] = 1,
    seconds: Annotated[float | None, typer.Option(min=1.0, help="Length of each run; default: the scenario's.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    results: Annotated[
        Path | None, typer.Option(help="Folder of finished runs; they are never run twice. ~/.cache/headroom/study")
    ] = None,
    cluster: Annotated[str, typer.Option(help="dask or ray: run there. Needs headroom-dc[cluster].")] = "",
    address: Annotated[str, typer.Option(help="Of the cluster's scheduler.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object: runs and totals.")] = False,
    html: Annotated[Path | None, typer.Option(help="A report with plots; one file, needs no network.")] = None,
) -> None:
    """Run scenarios under policies and score them; exit code 1 where headroom has not shown an outcome."""
    import json

    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError
    from sim.lab.cases import Asked, conduct
    from sim.lab.rivals import PolicyError
    from sim.lab.study import StudyError, where_of
    from sim.scenarios import ScenarioError

    try:
        where = where_of(jobs, cluster, address)
        asked = Asked(scenario, policy, seed, seeds, seconds, where, results, html)
        summary = conduct(resolve_site(site), asked, partial(typer.echo, err=True))
    except (SiteError, ScenarioError, PolicyError, StudyError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    lines = summary.pop("table")
    typer.echo(json.dumps(summary) if as_json else "\n".join(lines))
    if not summary["complete"]:
        raise typer.Exit(130)
    if summary["broken"] or summary["failed"]:
        raise typer.Exit(1)


@app.command("capacity")
def capacity(
    site: Annotated[str, typer.Argument(metavar="SITE", help="A site's directory, or colossus, hall.")],
    by: Annotated[str, typer.Option(help="racks: more of them; density: the same racks, drawing more.")] = "racks",
    most: Annotated[float, typer.Option(min=1.0, max=2.0, help="Largest growth, times today's.")] = 1.4,
    steps: Annotated[int, typer.Option(min=1, help="Steps from today to the largest.")] = 5,
    faults: Annotated[int, typer.Option(min=1, help="Drawn faults at each step, one a run.")] = 20,
    policy: Annotated[str, typer.Option(help="fair, throughput, a rival, package.module:Class.")] = "fair",
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal runs.")] = 1,
    seconds: Annotated[int, typer.Option(min=300, help="Length of each run.")] = 600,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    results: Annotated[Path | None, typer.Option(help="Folder of finished runs. ~/.cache/headroom/study")] = None,
    cluster: Annotated[str, typer.Option(help="dask or ray: run there. Needs headroom-dc[cluster].")] = "",
    address: Annotated[str, typer.Option(help="Of the cluster's scheduler.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """How many racks this shell carries: work, violations and risk as it fills, under drawn faults."""
    import json

    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError
    from sim.lab import capacity as lab
    from sim.lab.rivals import PolicyError
    from sim.lab.study import StudyError, where_of

    try:
        grow = lab.Grow(
            lab.way(by), most, steps, faults, policy, seed, seconds, where_of(jobs, cluster, address), results
        )
        result = lab.capacity(resolve_site(site), grow, partial(typer.echo, err=True))
    except (SiteError, PolicyError, StudyError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    typer.echo(json.dumps(result) if as_json else "\n".join(lab.table(result)))
    if not result["complete"]:
        raise typer.Exit(130)


@app.command("year")
def year_(
    site: Annotated[str, typer.Argument(metavar="SITE", help="A site's directory, or colossus, hall.")],
    scenario: Annotated[str, typer.Option(help="Whose load: a scenario's name, or a YAML file.")] = "steady",
    weather: Annotated[
        Path | None, typer.Option(help="CSV of 8,760 hours: dry_bulb_c, wet_bulb_c; default: a drawn year.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal years.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, with the months.")] = False,
) -> None:
    """A year of weather on the simulated plant: energy of racks, pumps, fans, chillers and losses, and the PUE."""
    import json

    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError
    from sim.lab.year import year
    from sim.plant.base import PlantError
    from sim.scenarios import ScenarioError, load_scenario

    try:
        result = year(resolve_site(site), load_scenario(scenario), weather, seed, partial(typer.echo, err=True))
    except (SiteError, ScenarioError, PlantError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(result, indent=1))
    else:
        typer.echo("\n".join(_figures("year", {k: v for k, v in result.items() if k != "months"})))


@app.command("bench")
def bench(
    what: Annotated[
        str,
        typer.Argument(metavar="allocate|console|cycle|history|mqtt|plant|poll|security|all", help="What to measure."),
    ] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    devices: Annotated[
        int, typer.Option(min=1, help="Devices that `poll` reads; 17500 is five thirds of a site.")
    ] = 10_500,
) -> None:
    """Measure beside a peer in the same run: the allocation beside HiGHS, the console with 20 browsers and without, a
    cycle with and without the background work, MQTT at two brokers, the plant over a simulated day, kinds of security
    beside each other, the reader beside pymodbus's client."""
    import json
    from collections.abc import Callable

    from sim.lab.bench.allocate import bench_allocate
    from sim.lab.bench.console import bench_console
    from sim.lab.bench.cycle import bench_cycle
    from sim.lab.bench.history import bench_history
    from sim.lab.bench.mqtt import bench_mqtt
    from sim.lab.bench.plant import bench_plant
    from sim.lab.bench.poll import BenchError, bench_poll
    from sim.lab.bench.security import bench_security

    say = partial(typer.echo, err=True)
    benches: dict[str, Callable[[], dict[str, Any]]] = {
        "allocate": partial(bench_allocate, say),
        "console": partial(bench_console, say),
        "cycle": partial(bench_cycle, say),
        "history": partial(bench_history, say),
        "mqtt": partial(bench_mqtt, say),
        "plant": partial(bench_plant, say),
        "poll": partial(bench_poll, say, devices),
        "security": partial(bench_security, say),
    }
    names = list(benches) if what == "all" else [what]
    if set(names) - set(benches):
        say(f"there is no bench '{what}': give one of {', '.join(benches)}, all")
        raise typer.Exit(1)
    results: dict[str, dict[str, Any]] = {}
    for name in names:
        say(f"measuring {name} ..")
        try:
            results[name] = benches[name]()
        except BenchError as error:
            say(str(error))
            raise typer.Exit(1) from error
        if not as_json:
            typer.echo("\n".join(_figures(name, results[name])))
    if as_json:
        typer.echo(json.dumps(results if what == "all" else results[what], indent=1))


def _warn(words: str) -> None:
    if words:
        typer.echo(words, err=True)


def _figures(name: str, result: dict[str, Any]) -> list[str]:
    """A bench's own table, or its figures, a line each."""
    if "table" in result:
        return list(result["table"])
    lines: list[str] = []
    for figure, v in result.items():
        if isinstance(v, dict):
            lines += _figures(f"{name} {figure}", v)
        else:
            lines.append(f"{name}  {figure:32s} {v if not isinstance(v, float) else f'{v:.4g}'}")
    return lines
