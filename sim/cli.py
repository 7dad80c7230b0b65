"""Commands of the simulated plant; the work is imported inside each command."""

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command("sim")
def sim(
    site: Annotated[str, typer.Argument(metavar="SITE", help="A site's directory, or colossus, hall.")],
    scenario: Annotated[str, typer.Option(help="A scenario's name, or a YAML file.")] = "steady",
    speed: Annotated[float, typer.Option(min=0.1, max=20.0, help="Plant seconds per second.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal plants.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object of the truth every second.")] = False,
) -> None:
    """Run a simulated plant behind real Modbus TCP and MQTT, until Ctrl-C."""
    import asyncio
    import logging

    import uvloop

    from drivers.site.load import resolve_site
    from drivers.site.problems import SiteError
    from sim.plant.base import PlantError
    from sim.scenarios import ScenarioError, load_scenario
    from sim.serve.modbus import PortTakenError
    from sim.serve.service import serve

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        plan = resolve_site(site), load_scenario(scenario)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(*plan, seed=seed, speed=speed, as_json=as_json))
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
) -> None:
    """Broker, plant and controller together, live; a summary by the plant's own truth at the end."""
    import json

    from drivers.site.problems import SiteError
    from sim.lab.broker import BrokerError
    from sim.lab.demo import DemoError, run_demo

    try:
        summary = run_demo(site, scenario, seed, for_s, as_json)
    except (SiteError, BrokerError, DemoError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
    else:
        for name, value in summary.items():
            typer.echo(f"{name:28s} {value if not isinstance(value, float) else f'{value:.4g}'}")


@app.command("bench")
def bench(
    what: Annotated[str, typer.Argument(metavar="fill|wires|all", help="What to measure.")] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure speed beside a peer in the same run: the filling beside HiGHS, the reader beside pymodbus's client."""
    import json

    from sim.lab.bench.fill import bench_fill
    from sim.lab.bench.wires import bench_wires

    benches = {"fill": bench_fill, "wires": bench_wires}
    names = list(benches) if what == "all" else [what]
    if set(names) - set(benches):
        typer.echo(f"there is no bench '{what}': give one of {', '.join(benches)}, all", err=True)
        raise typer.Exit(1)
    results: dict[str, dict[str, float]] = {}
    for name in names:
        typer.echo(f"measuring {name} ..", err=True)
        results[name] = benches[name]()
        if not as_json:
            for figure, value in results[name].items():
                typer.echo(f"{name}  {figure:32s} {value:.4g}")
    if as_json:
        typer.echo(json.dumps(results, indent=1))
