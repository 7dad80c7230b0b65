"""What is wrong in this cycle, by code of the rationalised list, with the elements it is wrong at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from controller.alarms.catalog import catalog
from controller.estimate import STALE_AGENT_S
from controller.frames import Bools, Floats, Frames, Ints, Mode, Reason, Shed
from controller.plan import Plan
from controller.shed import WORDS
from controller.words import count, some
from drivers.points import Quality
from drivers.wires import LinkHealth

SITE = "site"  # the element of what concerns no one element
METER_ERROR = 0.005  # a limit is exceeded by more than metering error
ANY = "*"  # any lost element explains it
NAMED = 32  # elements of one code that are named; more are one roll-up anyway


@dataclass(frozen=True)
class Finding:
    """One code's elements, each with the share by which its limit is exceeded (1: it simply is so).

    `text` says it for all of them together, `texts` for one; `because` names the lost element that explains one.
    """

    code: str
    text: str
    excess: Mapping[str, float] = field(default_factory=lambda: {SITE: 1.0})
    texts: Mapping[str, str] = field(default_factory=dict)
    because: Mapping[str, str] = field(default_factory=dict)

    @property
    def stands(self) -> bool:
        """Some element is beyond its limit, not only near it."""
        return any(x > 0.0 for x in self.excess.values())


def findings(
    plan: Plan, frames: Frames, links: Sequence[LinkHealth], outranked: int = 0, lapsed: Sequence[str] = ()
) -> list[Finding]:
    """What is wrong now, gravest first; each says what it is and what it means.

    `outranked` is the number of racks that obey a higher epoch than ours, `lapsed` the losses that were secured once
    and are not any more.
    """
    orders, cause = frames.orders, _cause(plan, frames)
    found = [_shed(plan, frames), _lost(plan, frames, cause), _exceeded(plan, frames)]
    if lapsed:
        found.append(Finding("unsecured", f"no longer secured against {count(len(lapsed), 'loss')}: {some(lapsed)}"))
    if outranked:
        text = f"{outranked} racks obey another controller (higher epoch): our caps do not reach them"
        found.append(Finding("outranked", text))
    found.append(_riding(plan, frames, cause))
    found += _racks(plan, frames, outranked, cause)
    found += _wires(plan, frames, links, cause)
    found.append(_pumps(plan, frames, cause))
    found += _points(frames, cause)
    if orders.mode != Mode.LIVE:
        found.append(Finding("mode", f"mode is {orders.mode.name}"))
    return [x for x in found if x is not None]


def standing(
    plan: Plan, frames: Frames, links: Sequence[LinkHealth], outranked: int = 0, lapsed: Sequence[str] = ()
) -> list[str]:
    """The same as text lines, with no delay and nothing left out."""
    return [line(x) for x in findings(plan, frames, links, outranked, lapsed) if x.stands]


def line(finding: Finding) -> str:
    """A finding as one line."""
    return f"CRITICAL: {finding.text}" if finding.code == "shed" else finding.text


def shed(plan: Plan, frames: Frames) -> dict[str, Any] | None:
    """What is shed now: racks, racks at each rung, the jobs, and for which limits in words; None where nothing is."""
    rungs = frames.orders.shed
    if rungs is None or not rungs.any():
        return None
    racks = np.flatnonzero(rungs)
    return {
        "racks": len(racks),
        "rungs": {WORDS[Shed(int(code))]: int((rungs == code).sum()) for code in np.unique(rungs[racks])},
        "jobs": list(dict.fromkeys(plan.site.racks[r].job or plan.site.racks[r].id for r in racks)),
        "why": list(frames.proposal.said),
    }


def _cause(plan: Plan, frames: Frames) -> Ints | None:
    """The lost element above or at each node [N], -1 where none is; None where nothing is lost."""
    lost = frames.image.lost_node
    if not lost.any():
        return None
    cause = np.where(lost, np.arange(len(lost)), -1)
    for level in reversed(plan.bottom_up):
        inner = level[(plan.parent[level] >= 0) & (cause[level] < 0)]
        cause[inner] = cause[plan.parent[inner]]
    return cause


def _dark(plan: Plan, frames: Frames, cause: Ints | None) -> Bools:
    """Racks both of whose cords hang on dead nodes [R]."""
    if cause is None:
        return np.zeros(len(plan.max_w), dtype=np.bool_)
    dead = (frames.image.dead | (cause >= 0))[plan.rack_pdu]
    return np.asarray(dead[:, 0] & dead[:, 1])


def _shed(plan: Plan, frames: Frames) -> Finding | None:
    found = shed(plan, frames)
    if found is None:
        return None
    rungs = ", ".join(f"{number} {rung}" for rung, number in found["rungs"].items())
    why = some(found["why"]) or "floors did not fit"
    return Finding("shed", f"{count(found['racks'], 'rack')} shed ({rungs}), of {some(found['jobs'])}: {why}")


def _lost(plan: Plan, frames: Frames, cause: Ints | None) -> Finding | None:
    """The elements that are lost, not those below a lost one; pumps have a code of their own."""
    below = (
        set()
        if cause is None
        else {node.id for n, node in enumerate(plan.site.nodes) if plan.parent[n] >= 0 and cause[plan.parent[n]] >= 0}
    )
    cases = [case for case in (plan.losses.cases[i] for i in frames.estimate.lost) if case.id not in below]
    names = {case.id: f"{case.kind.replace('_', ' ')} {case.id}" for case in cases if case.kind != "pump"}
    if not names:
        return None
    means = "caps are kept to what is left of the building"
    texts = {key: f"lost: {name}; {means}" for key, name in names.items()}
    return Finding("element_lost", f"lost: {some(list(names.values()))}; {means}", dict.fromkeys(names, 1.0), texts)


def _exceeded(plan: Plan, frames: Frames) -> Finding | None:
    """Limits that the load exceeds by more than metering error, the worst named; and those near, for the deadband."""
    load_w = frames.estimate.load_w[: len(plan.row_name)]
    limit_w = np.maximum(frames.limits.limit_w[: len(load_w)], 1.0)
    excess: Floats = load_w / limit_w - (1.0 + METER_ERROR)
    near = np.flatnonzero(excess > -catalog()["limit_exceeded"].deadband)
    if not len(near):
        return None

    def figures(row: int) -> str:
        return f"{load_w[row] / 1e6:.2f} of {limit_w[row] / 1e6:.2f} MW"

    worst = int(near[np.argmax(excess[near])])
    named = near[np.argsort(-excess[near], kind="stable")]
    return Finding(
        "limit_exceeded",
        f"{int((excess > 0.0).sum())} limit(s) exceeded, worst {plan.row_name[worst]}: {figures(worst)}",
        {plan.row_name[row]: float(excess[row]) for row in near},
        {plan.row_name[row]: f"limit exceeded: {plan.row_name[row]} at {figures(row)}" for row in named[:NAMED]},
    )


def _riding(plan: Plan, frames: Frames, cause: Ints | None) -> Finding | None:
    at = np.flatnonzero(frames.image.riding)
    if not len(at):
        return None
    names = [plan.row_name[i] for i in at]
    means = "nothing rises, its load will come back"
    because = _because(plan, cause, dict(zip(names, at.tolist(), strict=True)))
    return Finding(
        "on_battery",
        f"on stored energy or a lying meter: {', '.join(names[:3])}; {means}",
        dict.fromkeys(names, 1.0),
        {name: f"on stored energy or a lying meter: {name}; {means}" for name in names[:NAMED]},
        because,
    )


def _because(plan: Plan, cause: Ints | None, node_of: Mapping[str, int]) -> dict[str, str]:
    if cause is None:
        return {}
    ids = plan.site.nodes
    return {name: ids[cause[n]].id for name, n in node_of.items() if n >= 0 and cause[n] >= 0}


def _unfed(plan: Plan, frames: Frames, cause: Ints | None, fed: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The lost element above each thing of which every feed is dead now; where a tie feeds it again, nothing is."""
    if cause is None:
        return {}
    index, nodes, out = plan.site.node_index, plan.site.nodes, {}
    for name, feeds in fed.items():
        at = [index[x] for x in feeds]
        if at and all(frames.image.dead[n] and cause[n] >= 0 for n in at):
            out[name] = nodes[cause[at[0]]].id
    return out


def _racks(plan: Plan, frames: Frames, outranked: int, cause: Ints | None) -> list[Finding]:
    """What is wrong with racks, one finding a code, each rack an element."""
    orders, age_s = frames.orders, frames.image.age_s[plan.agent_slot["cap_w"]]
    dark = _dark(plan, frames, cause)
    nobody = np.zeros(len(dark), dtype=np.bool_)
    unheeded = nobody if outranked else orders.unheeded & ~dark
    counted: tuple[tuple[str, Bools, str], ...] = (
        (
            "floors_unfit",
            orders.reason == Reason.FLOOR,
            "at their floors and a limit still does not fit: shed load by hand",
        ),
        ("unheeded", unheeded, "hold a cap that was not ordered: their leases were refused, ran out or were forged"),
        ("disobedient", frames.estimate.disobedient, "draw more than their cap; their share is taken from the others"),
    )
    found = [_of_racks(plan, code, at, f"{int(at.sum())} racks {means}") for code, at, means in counted if at.any()]
    silent = (age_s > STALE_AGENT_S) & ~dark
    if silent.any():
        text = f"{int(silent.sum())} of {len(plan.max_w)} rack agents silent: their caps expire to the safe caps"
        found.append(_of_racks(plan, "agents_silent", silent, text))
    cut = orders.reason == Reason.GUARD
    if cut.any():
        found.append(_of_racks(plan, "guard_cut", cut, f"the guard cut the proposal of {int(cut.sum())} racks"))
    return found


def _of_racks(plan: Plan, code: str, at: Bools, text: str) -> Finding:
    names = [plan.site.racks[r].id for r in np.flatnonzero(at)]
    texts = {name: f"{name}: {text}" if len(names) > 1 else f"{text} ({name})" for name in names[:NAMED]}
    return Finding(code, text, dict.fromkeys(names, 1.0), texts)


def _pumps(plan: Plan, frames: Frames, cause: Ints | None) -> Finding | None:
    there = (plan.pump_slot >= 0) & (frames.image.quality[plan.pump_slot] == Quality.GOOD)
    at = np.flatnonzero(there & (frames.image.value[plan.pump_slot] < 0.5))
    if not len(at):
        return None
    names = [plan.pump_name[i] for i in at]
    text = f"{len(at)} of {int(there.sum())} loop pumps not available: {', '.join(names[:3])}"
    texts = {name: f"loop pump not available: {name}" for name in names[:NAMED]}
    fed = {x.id: x.fed_from for x in plan.site.cooling}
    because = _unfed(plan, frames, cause, {name: fed[name] for name in names})
    return Finding("pump_lost", text, dict.fromkeys(names, 1.0), texts, because)


def _points(frames: Frames, cause: Ints | None) -> list[Finding]:
    """Points without a valid value, and points doubted; while an element is lost, its loss explains the first."""
    quality = frames.image.quality
    bad, doubted = (int((quality == q).sum()) for q in (Quality.BAD, Quality.SUSPECT))
    found = []
    if bad:
        text = f"{bad} points report no valid value (sentinel, out of range or refused)"
        found.append(Finding("points_bad", text, because={} if cause is None else {SITE: ANY}))
    if doubted:
        text = f"{doubted} points doubted: stuck, contradicted by others, or their device is busy"
        found.append(Finding("points_doubted", text))
    return found


def _wires(plan: Plan, frames: Frames, links: Sequence[LinkHealth], cause: Ints | None) -> list[Finding]:
    """One finding for wires that are down, one for silent devices on the others, one for what buses say of the site."""
    down = [link for link in links if not link.up]
    ill = sorted((link for link in links if link.up and link.devices_silent), key=lambda link: -link.devices_silent)
    found = []
    gateways = {f"modbus gateway {x.id}": x.fed_from for x in plan.site.gateways}
    because = _unfed(plan, frames, cause, gateways) if down or ill else {}
    if down:
        silent = sum(link.devices_silent for link in down)
        first = ", ".join(link.name for link in down[:3]) + (", .." if len(down) > 3 else "")
        text = f"{len(down)} wires down with {silent} devices: {first}; {down[0].detail or 'no answer'}"
        found.append(_of_wires("wire_down", text, down, because))
    if ill:
        silent = sum(link.devices_silent for link in ill)
        worst = f"{ill[0].name} {ill[0].detail}".rstrip()
        text = f"{silent} devices silent on {len(ill)} wires, most on {worst}"
        found.append(_of_wires("devices_silent", text, ill, because))
    noted = {link.name: f"{link.name}: {link.note}" for link in links if link.note}
    if noted:
        found.append(Finding("wire_differs", "; ".join(noted.values()), dict.fromkeys(noted, 1.0), noted))
    return found


def _of_wires(code: str, text: str, links: Sequence[LinkHealth], because: Mapping[str, str]) -> Finding:
    """Each wire an element; one whose gateway has no live feed is explained by the loss."""
    texts = {
        x.name: f"wire down: {x.name} with {x.devices_silent} devices; {x.detail or 'no answer'}"
        if not x.up
        else f"{x.devices_silent} devices silent on {x.name} {x.detail}".rstrip()
        for x in links[:NAMED]
    }
    return Finding(code, text, {x.name: 1.0 for x in links}, texts, because)
