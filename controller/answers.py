"""Questions about the allocation and their answers, the same from a running controller and from the site file alone.

A question is a JSON object {"ask": ..., ...}; an answer is a JSON-ready dict whose `lines` are plain words.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller import bottlenecks, explain
from controller.cycle import State
from controller.design import NOTE, design
from controller.frames import Frames
from controller.plan import Plan, compile_plan
from controller.prepare import Moment, Prepared, Tables, tables_each, whole
from controller.words import duration
from drivers.inventory import compile_inventory
from drivers.profile import load_profiles
from drivers.site.model import Site
from drivers.site.problems import did_you_mean

TOP = 20  # lines of a ranking unless all are asked for


class AskError(ValueError):
    """A question without an answer; the message says why."""


@dataclass(frozen=True)
class World:
    """What answers are computed from. `note` says where that comes from when it is not a running cycle."""

    plan: Plan
    frames: Frames
    state: State
    prepared: Prepared
    said: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def answer(world: World, question: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to one question; AskError where there is none."""
    kind = question.get("ask")
    reply = KINDS.get(kind) if isinstance(kind, str) else None
    if reply is None:
        raise AskError(f"ask {kind!r}: give one of {', '.join(KINDS)}")
    source = world.note or f"cycle {world.frames.image.cycle}"
    return {"ask": kind, "site": world.plan.site.name, "source": source, **reply(world, question)}


def _name(question: Mapping[str, Any], key: str, known: Mapping[str, object], where: str) -> str:
    """The id that a question gives, checked."""
    name = question.get(key)
    if not isinstance(name, str) or name not in known:
        near = did_you_mean(str(name)[:80], known, f"Give an id from {where}.")
        raise AskError(f"there is no {key} {str(name)[:80]!r} at this site. {near}")
    return name


def _explain(world: World, question: Mapping[str, Any]) -> dict[str, Any]:
    rack = world.plan.site.rack_index[_name(question, "rack", world.plan.site.rack_index, "racks.csv")]
    return explain.explain(world.plan, world.frames, world.state, rack, world.said).to_dict()


def _bottlenecks(world: World, question: Mapping[str, Any]) -> dict[str, Any]:
    tables = _tables(world)
    found = tables.bottlenecks
    age_s = world.frames.image.now_s - tables.at_s
    shown = found if question.get("all") is True else found[:TOP]
    lines = bottlenecks.lines(found, shown) if found else ["no limit holds any rack below what it wants"]
    if age_s > 0.0:
        lines.append(f"prices are {duration(age_s)} old")
    rows = [x.to_dict() for x in shown]
    return {"cycle": tables.cycle, "age_s": age_s, "count": len(found), "bottlenecks": rows, "lines": lines}


def _tables(world: World) -> Tables:
    """What the background computed last; at once where no cycle waits for the time."""
    if world.prepared.tables is not None:
        return world.prepared.tables
    if not world.note:
        raise AskError("this is not computed yet: ask again in some seconds")
    return whole(tables_each(world.plan, Moment(world.frames, world.state)))


def by_design(site: Site) -> World:
    """The site at full demand by its file alone, for when no controller runs."""
    inventory = compile_inventory(site, load_profiles())
    plan = compile_plan(site, inventory)
    return World(plan, *design(plan, inventory), Prepared(), note=NOTE)


KINDS: dict[str, Callable[[World, Mapping[str, Any]], dict[str, Any]]] = {
    "explain": _explain,
    "bottlenecks": _bottlenecks,
}
