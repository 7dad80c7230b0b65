"""Questions about the allocation and their answers, the same from a running controller and from the site file alone.

A question is a JSON object {"ask": ..., ...}; an answer is a JSON-ready dict whose `lines` are plain words.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from controller import bottlenecks, explain, outage, present, verdict
from controller.act_kinds import ActError, check
from controller.cycle import State
from controller.design import NOTE, design
from controller.effect import effect
from controller.frames import Floats, Frames, Requests
from controller.plan import Plan, compile_plan
from controller.prepare import Latest, Moment, Tables, tables_each
from controller.steps import whole
from controller.verdict import Verdict
from controller.words import count, duration, power
from drivers.inventory import compile_inventory
from drivers.profile import load_profiles
from drivers.site.model import Site
from drivers.site.problems import did_you_mean

UNITS = {"ups": "UPS unit", "storage": "storage plant", "cdu": "CDU"}
TOP = 20  # lines of a ranking unless all are asked for


class AskError(ValueError):
    """A question without an answer; the message says why."""


@dataclass(frozen=True)
class World:
    """What answers are computed from; `patient` where seconds may be spent on one, so not beside a cycle.

    `note` says where it all comes from when that is not a running cycle.
    """

    plan: Plan
    frames: Frames
    state: State
    latest: Latest
    said: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    patient: bool = False
    asked: Requests = field(default_factory=Requests)  # what operators ask for now


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


def _contingencies(world: World, question: Mapping[str, Any]) -> dict[str, Any]:
    tables = _tables(world)
    every = question.get("all") is True
    bad, verdicts = tables.not_secured, tables.verdicts
    kinds: dict[str, list[Verdict]] = {}
    for v in verdicts:
        kinds.setdefault(v.kind, []).append(v)
    first = [min(of, key=lambda v: (v.secured, v.margin)) for of in kinds.values()]
    shown = list(verdicts if every else {(v.kind, v.id): v for v in (*bad[:TOP], *first)}.values())
    lost = [world.plan.losses.cases[case].id for case in world.frames.estimate.lost]
    lines = [f"{count(len(verdicts), 'loss')}, {len(bad)} not secured"]
    lines += [f"{x} is lost: this list still counts on it; what is left: headroom outage SITE {x}" for x in lost]
    lines += verdict.lines(shown)
    if not every:
        lines += _rolled_up(kinds, len(bad) - TOP)
    age_s = world.frames.image.now_s - tables.at_s
    return {
        "cycle": tables.cycle,
        "age_s": age_s,
        "count": len(verdicts),
        "lost": lost,
        "not_secured": [v.id for v in bad],
        "kinds": {kind: {"count": len(of), "not_secured": _bad(of)} for kind, of in kinds.items()},
        "losses": [_short(v) for v in shown],
        "lines": lines,
    }


def _rolled_up(kinds: Mapping[str, Sequence[Verdict]], left_out: int) -> list[str]:
    """What stands for the losses that are not listed."""
    out = [f"and {left_out} more that are not secured: --all"] if left_out > 0 else []
    of = ", ".join(count(len(x), UNITS.get(kind, kind.replace("_", " "))) for kind, x in kinds.items())
    return [*out, f"of each kind the worst is shown ({of}); every one: --all"]


def _bad(verdicts: Iterable[Verdict]) -> int:
    return sum(not v.secured for v in verdicts)


def _short(found: Verdict) -> dict[str, Any]:
    """A verdict without the list of all that the loss takes with it; what is not finite is None."""
    named = ((key, value) for key, value in vars(found).items() if key != "takes")
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in named}


def _tables(world: World) -> Tables:
    """What the background computed last; at once where no cycle waits for the time."""
    if world.latest.tables is not None:
        return world.latest.tables
    if not world.patient:
        raise AskError("this is not computed yet: ask again in some seconds")
    return whole(tables_each(world.plan, world.state.allocate.kit, Moment(world.frames, world.state)))


def by_design(site: Site) -> World:
    """The site at full demand by its file alone, for when no controller runs."""
    inventory = compile_inventory(site, load_profiles())
    plan = compile_plan(site, inventory)
    return World(plan, *design(plan, inventory), Latest(), note=NOTE, patient=True)


def by_state(site: Site, reply: Mapping[str, Any]) -> World:
    """The present state as a running controller gave it to {"ask": "now"}, for answers that take the asker's time."""
    world = by_design(site)
    try:
        frames = present.unpacked(world.plan, world.frames, reply)
    except (ValueError, KeyError) as error:
        raise AskError(f"the running controller was started with other site files than these: {error}") from error
    return replace(world, frames=frames, note="")


def _now(world: World, _: Mapping[str, Any]) -> dict[str, Any]:
    return {**present.packed(world.frames), "lines": ["the present state, for programs"]}


def _outage(world: World, question: Mapping[str, Any]) -> dict[str, Any]:
    cases = {case.id: case for case in world.plan.losses.cases}
    element = _name(question, "element", cases, "nodes.csv, cooling.csv, cdus.csv or storage.csv")
    if not world.patient:
        raise AskError("an outage takes seconds to compute, on the asker's side: headroom outage SITE ELEMENT")
    frames, plan = world.frames, world.plan
    caps_w, rungs = frames.orders.cap_w, frames.orders.shed
    found = outage.outage(world.state.allocate.kit, frames.estimate, frames.limits, caps_w, element, rungs)
    ids = [rack.id for rack in plan.site.racks]
    lines = [found.words, *_moves(plan, caps_w, found.cap_w)]
    if found.no_longer:
        lines += ["no longer secured:", *verdict.lines(list(found.no_longer[:TOP]))]
    caps = dict(zip(ids, found.cap_w, strict=True))
    return {**found.to_dict(), "cap_w": caps, "now_w": dict(zip(ids, caps_w.tolist(), strict=True)), "lines": lines}


def _moves(plan: Plan, now_w: Floats, then_w: Sequence[float]) -> list[str]:
    """Caps of each job now and then, those that fall most first."""
    jobs = [rack.job or rack.id for rack in plan.site.racks]
    index = {job: i for i, job in enumerate(dict.fromkeys(jobs))}
    of = np.array([index[job] for job in jobs])
    now, then = np.bincount(of, now_w), np.bincount(of, np.array(then_w))
    down = [i for i in np.argsort(then - now, kind="stable") if then[i] < now[i] - 1.0]
    names = list(index)
    out = [f"  {names[i]}: {power(float(now[i]))} now, {power(float(then[i]))} then" for i in down[:TOP]]
    return [*out, *([f"  and {len(down) - TOP} more jobs"] if len(down) > TOP else [])]


def _effect(world: World, question: Mapping[str, Any]) -> dict[str, Any]:
    act = question.get("act")
    try:
        told = check(world.plan.site, dict(act) if isinstance(act, Mapping) else {})
    except ActError as error:
        raise AskError(str(error)) from error
    return effect(world.plan, world.frames, world.state, world.asked, told)


KINDS: dict[str, Callable[[World, Mapping[str, Any]], dict[str, Any]]] = {
    "explain": _explain,
    "bottlenecks": _bottlenecks,
    "contingencies": _contingencies,
    "outage": _outage,
    "now": _now,
    "effect": _effect,
}
