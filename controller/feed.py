"""The frame that people and programs see: one JSON-ready dict a cycle."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from controller import alarms
from controller.frames import Frames, Reason
from controller.plan import Plan
from controller.prepare import Latest
from controller.words import row_text
from drivers.points import Quality
from drivers.wires import LinkHealth

CAPPED_SHARE = 0.005  # a rack counts as capped when its cap is this far below what it wants
TOP = 6
WORST = 3  # losses that a frame names
NOTHING_YET = Latest()
ILL_TOP = 16  # wires in trouble that a frame names; the rest are counted
REASON_WORDS = {
    Reason.FREE: "nothing limits it",
    Reason.STALE: "may not rise: data not fresh",
    Reason.PACE: "rising within the site's ramp",
    Reason.ROOM: "rising as others confirm",
    Reason.HOLD: "held",
    Reason.START: "cap found at start",
    Reason.FLOOR: "at its floor",
    Reason.GUARD: "cut by the guard",
    Reason.RIDING: "nothing rises while a UPS is on battery",
    Reason.LOST: "an element is lost: what is left carries no more",
    Reason.SHED: "shed: floors do not fit",
}


def reason_text(plan: Plan, frames: Frames, rack: int) -> str:
    """Why a rack has its cap, in words."""
    reason, row = Reason(int(frames.orders.reason[rack])), int(frames.orders.row[rack])
    if reason in (Reason.ROW, Reason.FLOOR) and row >= 0:
        why = frames.limits.narrowed_by[row]
        return row_text(plan, row) + (f" ({why})" if why else "")
    return REASON_WORDS.get(reason, reason.name.lower())


def capped(frames: Frames, plan: Plan) -> np.ndarray:
    """Racks whose cap is below what they want [R, bool]."""
    return frames.orders.cap_w < frames.estimate.demand_w - CAPPED_SHARE * plan.max_w


def frame(
    plan: Plan,
    frames: Frames,
    links: Sequence[LinkHealth],
    timing: dict[str, float],
    outranked: int = 0,
    said: Sequence[str] = (),
    latest: Latest = NOTHING_YET,
    told: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything the view shows; powers in W, times in s. `said` are the service's alarms, `latest` the background.

    `told` is what Records.told gives; without it the alarms are this cycle's findings, as text only.

    `envelope_binds`: the envelope row holds most of the capped racks, and no capped rack is being paced.
    """
    known, orders, bounds = frames.estimate, frames.orders, frames.limits
    is_capped = capped(frames, plan)
    no_reason = is_capped & (orders.reason == Reason.FREE)
    by_row = is_capped & (orders.reason == Reason.ROW)
    paced = int((is_capped & (orders.reason == Reason.PACE)).sum())
    ill = sorted((x for x in links if not x.up or x.devices_silent), key=lambda x: (x.up, -x.devices_silent))
    env = plan.envelope_row
    return {
        "cycle": frames.image.cycle,
        "t_s": frames.image.now_s,
        "mode": orders.mode.name.lower(),
        "envelope_w": bounds.envelope_w,
        "envelope_by": bounds.narrowed_by[env],
        "envelope_binds": paced == 0 and bool(2 * (by_row & (orders.row == env)).sum() > is_capped.sum()),
        "load_w": _number(known.load_w[env]),
        "racks_w": _number(np.nansum(known.rack_power_w)),
        "other_w": _number(known.other_w[env]),
        "caps_w": float(orders.cap_w.sum()),
        "demand_w": float(known.demand_w.sum()),
        "racks": len(plan.max_w),
        "racks_capped": int(is_capped.sum()),
        "racks_capped_without_reason": int(no_reason.sum()),
        "racks_paced": paced,
        "racks_known": int(known.rack_known.sum()),
        "covered": known.covered,
        "points": dict(
            zip((q.name.lower() for q in Quality), np.bincount(frames.image.quality, minlength=5).tolist(), strict=True)
        ),
        "feeds": _feeds(plan, frames),
        "loops": _loops(plan, frames),
        "jobs": _jobs(plan, frames, is_capped),
        "reasons": _reasons(plan, frames, is_capped),
        "bottlenecks": _bottlenecks(latest),
        "security": _security(frames, latest),
        "shed": alarms.shed(plan, frames),
        "points_per_s": sum(link.points_per_s for link in links),
        "wires": len(links),
        "wires_down": sum(not link.up for link in links),
        "links": [vars(link) for link in ill[:ILL_TOP]],
        **(told or {"alarms": alarms.standing(plan, frames, links, outranked, lapsed(latest)) + list(said)}),
        **timing,
    }


def _bottlenecks(latest: Latest) -> list[dict[str, Any]]:
    """The dearest limits as they were priced last."""
    found = latest.tables.bottlenecks if latest.tables else ()
    return [x.to_dict() | {"jobs": x.jobs[:TOP], "jobs_held": len(x.jobs)} for x in found[:TOP]]


def lapsed(latest: Latest) -> tuple[str, ...]:
    """Losses that were secured once and are not any more."""
    return latest.tables.lapsed if latest.tables else ()


def _security(frames: Frames, latest: Latest) -> dict[str, Any] | None:
    """How many losses there are, which are not secured, and how old that knowledge and the corrective sets are."""
    tables, sets, now_s = latest.tables, latest.sets, frames.image.now_s
    if tables is None:
        return None
    keys = ("id", "kind", "survivor", "margin", "limit_s", "secured", "reason")
    return {
        "losses": len(tables.verdicts),
        "not_secured": len(tables.not_secured),
        "worst": [{key: _plain(getattr(v, key)) for key in keys} for v in tables.verdicts[:WORST]],
        "age_s": now_s - tables.at_s,
        "sets_age_s": now_s - sets.at_s if sets else None,
    }


def _plain(value: Any) -> Any:
    return _number(value) if isinstance(value, float) else value


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _feeds(plan: Plan, frames: Frames) -> list[dict[str, Any]]:
    tops = [i for i, n in enumerate(plan.site.nodes) if n.kind in ("utility_feed", "substation")]
    return [
        {
            "id": plan.row_name[i],
            "load_w": _number(frames.estimate.load_w[i]),
            "limit_w": float(frames.limits.limit_w[i]),
        }
        for i in tops
    ]


def _loops(plan: Plan, frames: Frames) -> list[dict[str, Any]]:
    image, start = frames.image, plan.loop_row.start
    rows = [
        {
            "id": loop.id,
            "supply_c": _number(image.value[plan.loop_supply_slot[i]]) if plan.loop_supply_slot[i] >= 0 else None,
            "flow_lpm": _number(image.value[plan.loop_flow_slot[i]]) if plan.loop_flow_slot[i] >= 0 else None,
            "heat_w": float(frames.estimate.load_w[start + i]),
            "limit_w": float(frames.limits.limit_w[start + i]),
        }
        for i, loop in enumerate(plan.site.loops)
    ]
    return sorted(rows, key=lambda r: -(float(r["supply_c"] or 0.0)))[:TOP]


def _jobs(plan: Plan, frames: Frames, is_capped: np.ndarray) -> list[dict[str, Any]]:
    """Jobs by how much they are held below what they ask, most first."""
    names = [r.job or "(none)" for r in plan.site.racks]
    index = {name: i for i, name in enumerate(dict.fromkeys(names))}
    of = np.array([index[n] for n in names])
    level = np.full(len(index), np.inf)
    np.minimum.at(level, of, frames.proposal.level)
    racks, held = np.bincount(of), np.bincount(of, weights=is_capped)
    worst = np.argsort(level, kind="stable")[:TOP]
    out = []
    for i in worst:
        members = np.flatnonzero((of == i) & is_capped)
        why = reason_text(plan, frames, int(members[0])) if len(members) else ""
        name = list(index)[int(i)]
        out.append({"id": name, "level": float(level[i]), "racks": int(racks[i]), "capped": int(held[i]), "why": why})
    return out


def _reasons(plan: Plan, frames: Frames, is_capped: np.ndarray) -> dict[str, int]:
    """How many capped racks each reason holds."""
    codes = np.stack([frames.orders.reason[is_capped].astype(np.int64), frames.orders.row[is_capped]])
    kinds, counts = np.unique(codes, axis=1, return_counts=True)
    found: dict[str, int] = {}
    for (code, row), count in zip(kinds.T, counts, strict=True):
        first = np.flatnonzero(is_capped & (frames.orders.reason == code) & (frames.orders.row == row))[0]
        text = reason_text(plan, frames, int(first))
        found[text] = found.get(text, 0) + int(count)
    return found
