"""Preventive rows: what today's caps must leave free so that each survivor lasts until the racks have acted.

Racks act one class after the other (actuators). From one class to the next a survivor carries the slower racks at
today's caps, the faster at their lowest, and a margin for those that do not obey.
"""

from dataclasses import dataclass

import numpy as np

from controller.contingency.building import Building
from controller.contingency.cells import NOTHING, Cells, after_rows, csr
from controller.contingency.losses import Loss
from controller.frames import Bools, Floats, Ints, Rows

WIDE_RACKS = 400  # a survivor of more racks, onto which a loss moves
WIDE_SHARE = 0.03  # less than this of its rating, gets no rows but keeps the largest move as a reserve


@dataclass(frozen=True)
class Preventive:
    """J rows; see rows.Losses."""

    rows: Rows
    fast: Rows
    cell: Ints  # [J]
    begin_s: Floats
    hold_s: Floats
    weight: Floats
    fast_w: Floats
    floor_load_w: Floats
    reserve_w: Floats  # [N]
    rows_before: int
    nonzeros_before: int


@dataclass(frozen=True)
class _Entries:
    """Load of the chosen cells after the loss: E entries in order of cell and rack."""

    cell: Ints
    rack: Ints
    parts: Floats  # [E, 3]
    coeff: Floats
    act_s: Floats  # until the rack has acted, after the load has arrived


def preventive(b: Building, cases: tuple[Loss, ...], cells: Cells, base: Rows, act_s: Floats) -> Preventive:
    """Rows of all cells whose load arrives before every rack has acted (all cells, if nothing may rely on action)."""
    security = b.site.control.security
    at_s = np.array([cases[c].stages[s].at_s for c, s in zip(cells.case, cells.stage, strict=True)])
    if security == "none":
        wanted = np.zeros(len(at_s), dtype=bool)
    else:
        wanted = at_s < act_s.max() - NOTHING if security == "corrective" else np.ones(len(at_s), dtype=bool)
    wide, reserve_w = _wide(b, cells, base, wanted)
    e = _entries(cells, base, np.flatnonzero(wanted & ~wide))
    acts = np.maximum(act_s[e.rack] - at_s[e.cell], 0.0) if security == "corrective" else np.full(len(e.rack), np.inf)
    e = _Entries(e.cell, e.rack, e.parts, e.coeff, np.round(acts, 9))
    cell, begin_s, hold_s, weight = _intervals(e)
    rows, fast = _split(e, cell, hold_s)
    spread_w = np.array([r.max_w - r.floor_w for r in b.site.racks])
    floor_w = np.array([r.floor_w for r in b.site.racks])
    fast_w = fast.dot(floor_w) + _disobedience(b, fast, spread_w)
    rows_before = len(cell) + int(wide.sum())
    nonzeros_before = len(rows.racks) + int(np.diff(base.indptr)[cells.node[wide]].sum())
    keep = _distinct(rows, [cells.node[cell], begin_s, hold_s, weight, cells.moved_w[cell], fast_w])
    rows, fast = _pick(rows, keep), _pick(fast, keep)
    return Preventive(
        rows=rows,
        fast=fast,
        cell=cell[keep],
        begin_s=begin_s[keep],
        hold_s=hold_s[keep],
        weight=weight[keep],
        fast_w=fast_w[keep],
        floor_load_w=rows.dot(floor_w),
        reserve_w=reserve_w,
        rows_before=rows_before,
        nonzeros_before=nonzeros_before,
    )


def _wide(b: Building, cells: Cells, base: Rows, wanted: Bools) -> tuple[Bools, Floats]:
    """Wanted cells that are covered by a reserve [D], and the reserve [N]."""
    max_w = np.array([r.max_w for r in b.site.racks])
    gained = np.maximum(cells.delta.coeff, 0.0) * max_w[cells.delta.racks]
    move_w = np.bincount(cells.delta.of_entry, gained, minlength=len(cells.node)) + cells.moved_w
    small = move_w < WIDE_SHARE * b.rating_w[cells.node]
    wide = wanted & small & (np.diff(base.indptr)[cells.node] > WIDE_RACKS)
    reserve_w = np.zeros(len(b.parent))
    np.maximum.at(reserve_w, cells.node[wide], move_w[wide])
    return wide, reserve_w


def _entries(cells: Cells, base: Rows, chosen: Ints) -> _Entries:
    """Base rows of the chosen cells' nodes and what is added to them."""
    rows = after_rows(base, cells.delta, cells.node, chosen)
    return _Entries(chosen[rows.of_entry], rows.racks, _parts(rows), rows.coeff, np.zeros(len(rows.racks)))


def _parts(rows: Rows) -> Floats:
    return np.concatenate([rows.cords, rows.fixed[:, None]], axis=1)


def _intervals(e: _Entries) -> tuple[Ints, Floats, Floats, Floats]:
    """One row for each cell and each time at which a class of its racks has acted: (cell, begin, hold, weight)."""
    late = e.act_s > 0.0
    times, number = np.unique(e.act_s[late], return_inverse=True)
    pair = np.unique(e.cell[late] * max(len(times), 1) + number)
    if not len(pair):
        return np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0), np.zeros(0)
    cell, hold_s = pair // len(times), times[pair % len(times)]
    same = np.append(False, cell[1:] == cell[:-1])
    begin_s = np.where(same, np.roll(hold_s, 1), 0.0)
    last = np.append(cell[1:] != cell[:-1], True)
    group = np.cumsum(~same) - 1
    with np.errstate(invalid="ignore"):
        weight = (hold_s - begin_s) / hold_s[last][group]
    return cell, begin_s, hold_s, np.where(np.isfinite(hold_s), weight, 1.0)


def _split(e: _Entries, cell: Ints, hold_s: Floats) -> tuple[Rows, Rows]:
    """Entries of each row: racks that have not acted before it ends, and those that have."""
    first, last = np.searchsorted(e.cell, cell), np.searchsorted(e.cell, cell, side="right")
    size = last - first
    of = np.repeat(np.arange(len(cell)), size)
    at = first[of] + np.arange(len(of)) - np.repeat(np.cumsum(size) - size, size)
    slow = e.act_s[at] >= hold_s[of]
    return (
        csr(of[slow], len(cell), e.rack[at[slow]], e.parts[at[slow]], e.coeff[at[slow]]),
        csr(of[~slow], len(cell), e.rack[at[~slow]], e.parts[at[~slow]], e.coeff[at[~slow]]),
    )


def _disobedience(b: Building, fast: Rows, spread_w: Floats) -> Floats:
    """What racks add that should have acted and have not: the site's share of them, the largest at least."""
    each = fast.coeff * spread_w[fast.racks]
    largest = np.zeros(len(fast.indptr) - 1)
    np.maximum.at(largest, fast.of_entry, each)
    share = b.site.control.disobedient_share
    total = np.bincount(fast.of_entry, each, minlength=len(largest))
    return np.where(share > 0.0, np.maximum(share * total, largest), 0.0)


def _distinct(rows: Rows, columns: list[Floats | Ints]) -> Ints:
    """First of equal rows."""
    scalars = np.stack([np.asarray(c, dtype=np.float64) for c in columns], axis=1)
    entries = np.column_stack([rows.racks.astype(np.float64), _parts(rows)])
    seen: set[bytes] = set()
    keep = []
    for j in range(len(scalars)):
        key = scalars[j].tobytes() + entries[rows.indptr[j] : rows.indptr[j + 1]].tobytes()
        if key not in seen:
            seen.add(key)
            keep.append(j)
    return np.array(keep, dtype=np.int64)


def _pick(rows: Rows, keep: Ints) -> Rows:
    number = np.full(len(rows.indptr) - 1, -1)
    number[keep] = np.arange(len(keep))
    e = number[rows.of_entry] >= 0
    return csr(number[rows.of_entry[e]], len(keep), rows.racks[e], _parts(rows)[e], rows.coeff[e])
