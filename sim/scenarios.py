"""Scenarios: named timelines of events, one YAML file each in scenarios/. The actions are in sim/plant/events.py."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from drivers.site.problems import did_you_mean
from sim.plant.events import ACTIONS, Scenario
from sim.plant.outcome import Outcome

FOLDER = Path(__file__).parent / "scenarios"


class ScenarioError(ValueError):
    """A scenario that cannot be used; the message lists every problem with its place."""


def scenario_names() -> list[str]:
    """Names of the packaged scenarios, sorted."""
    return sorted(p.stem for p in FOLDER.glob("*.yaml"))


def load_scenario(name_or_path: str | Path) -> Scenario:
    """A packaged scenario by name, or any file by path; ScenarioError with all problems."""
    path = Path(name_or_path)
    if path.suffix != ".yaml":
        path = FOLDER / f"{name_or_path}.yaml"
    if not path.is_file():
        known = ", ".join(scenario_names())
        hint = did_you_mean(str(name_or_path), scenario_names())
        raise ScenarioError(f"there is no scenario '{name_or_path}'. {hint} Known: {known}".replace(".  ", ". "))
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ScenarioError(f"{path.name}: not YAML: {error}") from error
    if not isinstance(data, dict):
        raise ScenarioError(f"{path.name}: a scenario is a mapping with name, title and events")
    try:
        scenario = Scenario.model_validate(data)
    except ValidationError as error:
        raise ScenarioError("\n".join(_problem(path.name, data, e["loc"], e["msg"]) for e in error.errors())) from error
    if scenario.name != path.stem:
        raise ScenarioError(f"{path.name}: the scenario is named {scenario.name}; name it {path.stem}")
    return scenario


def untaken(scenario: Scenario) -> str:
    """What to tell a user whose plant runs on real sockets of events that only the lock-step takes, or nothing."""
    if not scenario.needs_lab:
        return ""
    what = ", ".join(scenario.needs_lab)
    return (
        f"scenario {scenario.name}: {what} will not happen here; `headroom study SITE --scenario {scenario.name}` does"
    )


def _problem(file: str, data: dict[str, Any], where: tuple[int | str, ...], message: str) -> str:
    """One problem in words: `surge.yaml: events.2 (outage) at_s: ...`, with the nearest known name."""
    known = list(Scenario.model_fields)
    place = list(where)
    if place[:1] == ["events"] and len(place) > 1 and isinstance(place[1], int):
        event = data["events"][place[1]]
        action = event.get("do") if isinstance(event, dict) else None
        model = ACTIONS.get(str(action))
        if model is None:
            hint = did_you_mean(str(action), ACTIONS, "Known: " + ", ".join(ACTIONS))
            return f"{file}: events.{place[1]}: there is no action '{action}'. {hint}"
        known = list(model.model_fields)
        place = [f"events.{place[1]} ({action})", *place[3:]]
    if place[:1] == ["outcome"]:
        known = list(Outcome.model_fields)
    text = f"{file}: {' '.join(map(str, place))}: {message}"
    hint = did_you_mean(str(place[-1]), known) if "not permitted" in message else ""
    return f"{text}. {hint}" if hint else text
