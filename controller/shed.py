"""The shed ladder, when floors do not fit: whole gangs, lowest class first, one rung for all before the next.

PAUSE: the job stops and its racks idle. SLOW: the same at the lowest clock. DOWN: orderly shutdown of the nodes. OFF:
outlets open. The site file names the last rung allowed. Only gangs with racks under a violated row are touched, and a
second gang is broken only when the first does not suffice.
"""

from dataclasses import dataclass

import numpy as np

from controller.frames import Bools, Codes, Floats, Ints, Rows, Shed
from controller.plan import Plan

SLOW_SHARE = 0.9  # assumption: of idle power, at the lowest clock
DOWN_SHARE = 0.05  # assumption: of idle power, nodes shut down, management and fans left
RUNGS = {"pause": Shed.PAUSE, "slow": Shed.SLOW, "down": Shed.DOWN, "off": Shed.OFF}
WORDS = {Shed.PAUSE: "paused", Shed.SLOW: "at lowest clock", Shed.DOWN: "shut down", Shed.OFF: "switched off"}
TOLERANCE = 1e-9  # of a row's room


@dataclass(frozen=True)
class Shedding:
    """What is shed [R], in words, and whether every row holds with it."""

    codes: Codes
    said: tuple[str, ...]
    fits: bool


def shed_w(plan: Plan, codes: Codes) -> Floats:
    """Power of each rack at its rung [R, W]; NaN where nothing is shed."""
    share = np.array([np.nan, 1.0, SLOW_SHARE, DOWN_SHARE, 0.0])
    return np.asarray(plan.idle_w * share[codes])


def least_w(plan: Plan, codes: Codes, floor_w: Floats) -> Floats:
    """Lowest power that each rack can be brought to by its cap: its floor, or its rung where it is shed [R, W]."""
    return np.fmin(floor_w, shed_w(plan, codes))


def ladder(
    plan: Plan,
    rows: Rows,
    room_w: Floats,
    floor_w: Floats,
    names: tuple[str, ...],
    codes: Codes | None = None,
    reach: Bools | None = None,
) -> Shedding:
    """Rungs [R] at which every row of `rows` holds, going on from `codes`.

    room_w [rows]: what racks may have (inf: no limit); floor_w [R]: lowest power of a rack that works, or what it is
    counted at; names [rows]; reach [R]: racks that can be told (default all).
    """
    began = np.zeros(len(floor_w), dtype=np.uint8) if codes is None else codes
    codes = began.copy()
    reach = np.ones(len(floor_w), dtype=np.bool_) if reach is None else reach
    over_w = rows.dot(least_w(plan, codes, floor_w)) - room_w
    picked: list[_Pick] = []
    for rung in range(Shed.PAUSE, RUNGS[plan.site.control.shed] + 1):
        if not _over(over_w, room_w).any():
            break
        picks = _rung(plan, rows, over_w, room_w, floor_w, codes, reach & (codes < rung), Shed(rung))
        picked += _take_back(over_w, room_w, codes, picks)
        over_w = rows.dot(least_w(plan, codes, floor_w)) - room_w
    left = _over(over_w, room_w)
    return Shedding(codes, _said(plan, names, left, codes, picked), not left.any())


def release(
    plan: Plan, rows: Rows, room_w: Floats, floor_w: Floats, codes: Codes, margin: float, reach: Bools | None = None
) -> Codes:
    """Rungs after letting go of every shed gang whose floors fit, best class first; `margin` is a share of a room.

    Loads follow only in the rows that a gang touches: as many gangs as racks cost little more than one.
    """
    codes = codes.copy()
    lean_w = room_w - margin * np.where(np.isfinite(room_w), np.abs(room_w), 0.0)
    least = least_w(plan, codes, floor_w)
    load_w = rows.dot(least)
    entry = np.flatnonzero((codes > Shed.NONE)[rows.racks])
    entry = entry[np.argsort(plan.gang_of[rows.racks[entry]], kind="stable")]
    row, rises_w = rows.of_entry[entry], rows.coeff[entry] * (floor_w - least)[rows.racks[entry]]
    asleep = np.flatnonzero(codes > Shed.NONE)
    asleep = asleep[np.argsort(plan.gang_of[asleep], kind="stable")]
    gangs, first = np.unique(plan.gang_of[asleep], return_index=True)
    last = np.append(first[1:], len(asleep))
    begin, end = (np.searchsorted(plan.gang_of[rows.racks[entry]], gangs, side=s) for s in ("left", "right"))
    for k in np.lexsort((gangs, plan.gang_class[gangs])).tolist():
        racks, mine, rise_w = asleep[first[k] : last[k]], row[begin[k] : end[k]], rises_w[begin[k] : end[k]]
        if reach is not None and not reach[racks].all():
            continue
        before_w = load_w[mine]
        np.add.at(load_w, mine, rise_w)
        if _over(load_w[mine] - lean_w[mine], lean_w[mine]).any():
            load_w[mine] = before_w
        else:
            codes[racks] = Shed.NONE
    return codes


@dataclass(frozen=True)
class _Pick:
    """One gang brought to a rung: its racks, their rungs before, and what that frees in rows that were over."""

    racks: Ints
    rung: Shed
    before: Codes
    row: Ints
    freed_w: Floats


def _over(over_w: Floats, room_w: Floats) -> Bools:
    """Rows that do not hold; beyond rounding."""
    return over_w > TOLERANCE * np.maximum(np.where(np.isfinite(room_w), np.abs(room_w), 1.0), 1.0)


def _rung(
    plan: Plan, rows: Rows, over_w: Floats, room_w: Floats, floor_w: Floats, codes: Codes, able: Bools, rung: Shed
) -> list[_Pick]:
    """Bring gangs to this rung until the rows hold; `over_w` and `codes` follow in place."""
    picks: list[_Pick] = []
    at = np.where(able, np.uint8(rung), codes).astype(np.uint8)
    freed = least_w(plan, codes, floor_w) - least_w(plan, at, floor_w)
    gangs, n = len(plan.gang_class), len(room_w)
    size = np.bincount(plan.gang_of[able], minlength=gangs)
    entry = np.flatnonzero(_over(over_w, room_w)[rows.of_entry] & (freed[rows.racks] > 0.0) & (rows.coeff > 0.0))
    row, gang = rows.of_entry[entry], plan.gang_of[rows.racks[entry]]
    key, number = np.unique(gang * n + row, return_inverse=True)
    of_gang, of_row = key // n, key % n
    gives = np.bincount(number, rows.coeff[entry] * freed[rows.racks[entry]], minlength=len(key))
    while len(key):
        short_w = np.where(_over(over_w, room_w), over_w, 0.0)
        useful = np.bincount(of_gang, np.minimum(gives, short_w[of_row]), minlength=gangs)
        candidates = np.flatnonzero(useful > 0.0)
        if not len(candidates):
            break
        lowest = candidates[plan.gang_class[candidates] == plan.gang_class[candidates].max()]
        best = lowest[np.argmax(useful[lowest] / size[lowest])]
        racks = np.flatnonzero(able & (plan.gang_of == best))
        if rung > Shed.PAUSE:  # the job has stopped: only what helps goes on
            racks = racks[np.isin(racks, rows.racks[entry[gang == best]])]
        mine = of_gang == best
        picks.append(_Pick(racks, rung, codes[racks], of_row[mine], gives[mine]))
        codes[racks] = rung
        over_w[of_row[mine]] -= gives[mine]
        gives[mine] = 0.0
    return picks


def _take_back(over_w: Floats, room_w: Floats, codes: Codes, picks: list[_Pick]) -> list[_Pick]:
    """Undo the picks that later ones have made needless, the last picked first; those that stay."""
    stay: list[_Pick] = []
    for pick in reversed(picks):
        with_it = over_w[pick.row] + pick.freed_w
        if _over(with_it, room_w[pick.row]).any():
            stay.append(pick)
        else:
            over_w[pick.row] = with_it
            codes[pick.racks] = pick.before
    return stay[::-1]


def _said(plan: Plan, names: tuple[str, ...], left: Bools, codes: Codes, picked: list[_Pick]) -> tuple[str, ...]:
    """One sentence for each job or rack, its last rung and the row that asked; one for each row still too full."""
    racks: dict[tuple[str, str], list[int]] = {}
    for pick in picked:
        if (codes[pick.racks] == pick.rung).any():
            row = names[int(pick.row[np.argmax(pick.freed_w)])]
            job = plan.site.racks[pick.racks[0]].job
            who = f"of {job} " if job else ""
            racks.setdefault((who, f"{WORDS[pick.rung]}: floors do not fit {row}"), []).extend(pick.racks.tolist())
    out = []
    for (who, what), members in racks.items():
        one = f"rack {plan.site.racks[members[0]].id} " if len(members) == 1 else f"{len(members):,} racks {who}"
        out.append(one + what)
    return (*out, *(f"{names[k]} does not hold even so" for k in np.flatnonzero(left)))
