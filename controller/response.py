"""What is done about losses that have happened and about floors that do not fit: ceilings and rungs, until it is over.

A new loss is answered in the same cycle with its prepared set, checked again on the present state; it only lowers.
While it lasts its ceilings are solved anew every few seconds, and after a while they follow what the racks ask.
"""

from dataclasses import dataclass, replace

import numpy as np

from controller import corrective, shed
from controller.aftermath import may_come, overloads, survivors
from controller.corrective import Kit, Prepared
from controller.frames import Bools, Codes, Estimate, Floats, Ints, Limits, Rows
from controller.plan import Plan
from controller.policies.grid import METER_ERROR

RESOLVE_S = 5.0  # between two solutions of a loss that stands
SETTLED_S = 60.0  # after a loss its ceilings only fall; later they follow demand, too
SHED_AFTER_S = 5.0  # floors that do not fit for so long are no bad reading
WAKE_AFTER_S = 60.0  # shed jobs come back when they have fitted for so long ..
OTHER_MOST = 2.0  # times the other load by the site file: beyond it a meter is more likely wrong than right
COOLING = ("pump", "chiller", "tower", "dry_cooler")  # a unit's own word lowers caps, it stops no job
WAKE_MARGIN = 0.02  # .. with this share of every limit to spare


@dataclass(frozen=True)
class Response:
    """What is in force now."""

    since_s: dict[int, float]  # losses that stand, and when each was seen
    cap_w: Floats  # [R] most that each rack may have for them, inf: no more than ever
    codes: Codes  # [R] rungs
    said: tuple[str, ...]  # who is shed and why, in words
    solved_s: float
    short_s: float  # since when floors do not fit, inf: they do
    fit_s: float  # since when somebody who is shed would fit again, inf: nobody


def begin(plan: Plan) -> Response:
    """Nothing is lost and nobody is shed."""
    racks = len(plan.max_w)
    nobody = np.zeros(racks, dtype=np.uint8)
    return Response({}, np.full(racks, np.inf), nobody, (), -np.inf, np.inf, np.inf)


def respond(
    kit: Kit, prepared: Prepared, now_s: float, known: Estimate, limits: Limits, cap_w: Floats, last: Response
) -> Response:
    """The response of this cycle; `cap_w` [R] are the caps in force, `prepared` the sets kept ready."""
    same = set(known.lost) == set(last.since_s)
    now = last if same else _changed(kit, prepared, now_s, known, limits, cap_w, last)
    if now.since_s and now_s - now.solved_s >= RESOLVE_S:
        now = _again(kit, now_s, known, limits, cap_w, now)
    now = _short(kit, now_s, known, limits, now)
    return _waking(kit, now_s, known, limits, now) if now.codes.any() else replace(now, said=(), fit_s=np.inf)


def _changed(
    kit: Kit, prepared: Prepared, now_s: float, known: Estimate, limits: Limits, cap_w: Floats, last: Response
) -> Response:
    """New losses get their prepared sets; when one is over the others are solved at once."""
    new = [case for case in known.lost if case not in last.since_s]
    caps_w, codes, said = last.cap_w.copy(), last.codes, last.said
    for case in new:
        ready = prepared.of_case.get(case, corrective.nothing(case))
        fix = corrective.recheck(kit, ready, known, limits, np.minimum(caps_w, cap_w), codes, 0.0, known.alive)
        caps_w[fix.rack] = np.minimum(caps_w[fix.rack], fix.cap_w)
        if kit.plan.losses.cases[case].kind not in COOLING:
            codes, said = fix.codes(codes), (*said, *fix.said)
    return replace(
        last,
        since_s={case: last.since_s.get(case, now_s) for case in known.lost},
        cap_w=caps_w if known.lost else np.full(len(cap_w), np.inf),
        codes=codes,
        said=tuple(dict.fromkeys(said)),
        solved_s=now_s if new else -np.inf,
    )


def _again(kit: Kit, now_s: float, known: Estimate, limits: Limits, cap_w: Floats, now: Response) -> Response:
    """Standing losses solved for the present state."""
    settled = now_s - max(now.since_s.values()) >= SETTLED_S
    from_w = kit.plan.max_w if settled else np.minimum(now.cap_w, cap_w)
    caps_w = np.full(len(cap_w), np.inf) if settled else now.cap_w.copy()
    codes, said = now.codes, now.said
    for case, began_s in now.since_s.items():
        fix = corrective.corrective(kit, case, known, limits, from_w, codes, None, now_s - began_s, known.alive)
        caps_w[fix.rack] = np.minimum(caps_w[fix.rack], fix.cap_w)
        if kit.plan.losses.cases[case].kind not in COOLING:
            codes, said = fix.codes(codes), (*said, *fix.said)
    return replace(now, cap_w=caps_w, codes=codes, said=tuple(dict.fromkeys(said)), solved_s=now_s)


def _short(kit: Kit, now_s: float, known: Estimate, limits: Limits, now: Response) -> Response:
    """Go down the ladder where floors have not fitted for a while."""
    floor_w, reach = _floors(kit.plan, known)
    room_w = _sure_room(kit, known, limits)
    least_w = shed.least_w(kit.plan, now.codes, floor_w)
    if not (known.rows.dot_kept(least_w) > room_w * (1.0 + 1e-9) + 1.0).any():
        return replace(now, short_s=np.inf)
    now = replace(now, short_s=min(now.short_s, now_s))
    if now_s - now.short_s < SHED_AFTER_S:
        return now
    down = shed.ladder(kit.plan, known.rows, room_w, floor_w, _names(kit.plan), now.codes, reach)
    return replace(now, codes=down.codes, said=tuple(dict.fromkeys(now.said + down.said)))


def _sure_room(kit: Kit, known: Estimate, limits: Limits) -> Floats:
    """Room by which jobs may be stopped [K + J, W]: no single instrument's word does it.

    Electrical limits of several racks only, with no more other load than twice what the site file knows of, and no
    less than the rating at the worst case. Where coolant stands still at a rack its own protection acts.
    """
    plan, room_w, at = kit.plan, np.full(len(limits.room_w), np.inf), kit.plan.shared_electrical
    other_w, limit_w = known.other_w[at], limits.limit_w[at]
    most_w = OTHER_MOST * plan.design_other_w[at] + np.minimum(other_w, 0.0)
    of_node = at < plan.node_row.stop
    limit_w[of_node] = np.maximum(limit_w[of_node], kit.sure_w[at[of_node]] * (1.0 - METER_ERROR))
    room_w[at] = np.maximum(limit_w - np.minimum(other_w, most_w), limits.room_w[at])
    return room_w


def _waking(kit: Kit, now_s: float, known: Estimate, limits: Limits, now: Response) -> Response:
    """Let go of jobs that have fitted again for a while, also under what has survived a loss."""
    floor_w, reach = _floors(kit.plan, known)
    rows, room_w = _all_rows(kit, now_s, known, limits, now)
    free = shed.release(kit.plan, rows, room_w, floor_w, now.codes, WAKE_MARGIN, reach)
    if (free == now.codes).all():
        return replace(now, fit_s=np.inf)
    fit_s = min(now.fit_s, now_s)
    if now_s - fit_s < WAKE_AFTER_S:
        return replace(now, fit_s=fit_s)
    return replace(now, codes=free, fit_s=np.inf)


def _all_rows(kit: Kit, now_s: float, known: Estimate, limits: Limits, now: Response) -> tuple[Rows, Floats]:
    """Rows of the present state, of the losses to come and of those that have happened."""
    if not now.since_s:
        return known.rows, limits.room_w
    after = overloads(kit, known, limits, kit.plan.max_w, now.codes)
    cells, heat = (_to_come(kit, now_s, known, now, *x) for x in _cells(kit))
    rows, room_w, _ = survivors(kit, known, after, cells, heat)
    return known.rows.joined(rows), np.append(limits.room_w, room_w)


def _cells(kit: Kit) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
    """Case and stage of the electrical and of the heat cells."""
    losses = kit.plan.losses
    return (losses.delta_case, losses.delta_stage), (kit.heat_case, kit.heat_stage)


def _to_come(kit: Kit, now_s: float, known: Estimate, now: Response, case: Ints, stage: Ints) -> Ints:
    """Cells of the losses that stand, of the stages that may still come."""
    out = np.zeros(len(case), dtype=np.bool_)
    for k, began_s in now.since_s.items():
        mine = case == k
        out[mine] = may_come(kit, k, now_s - began_s, known.alive)[stage[mine]]
    return np.flatnonzero(out)


def _floors(plan: Plan, known: Estimate) -> tuple[Floats, Bools]:
    """Lowest power of each rack that works, or what it is counted at, and which racks can be told."""
    told = np.isnan(known.constant_w)
    return np.where(told, plan.floor_w, known.constant_w), told


def _names(plan: Plan) -> tuple[str, ...]:
    own = (f"{kind} {name}" for kind, name in zip(plan.row_kind, plan.row_name, strict=True))
    return (*own, *plan.losses.name)


def found(last: Response, known: Estimate, racks: Bools) -> Response:
    """Of `racks` [R], which have no order of ours yet: what another controller has shed stays shed."""
    codes = np.where(racks, np.maximum(last.codes, known.shed_found), last.codes)
    more = ("shed by another controller",) if (codes > last.codes).any() else ()
    return replace(last, codes=codes, said=tuple(dict.fromkeys(last.said + more)))
