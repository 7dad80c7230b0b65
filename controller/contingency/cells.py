"""What each stage of each loss moves onto which survivor, as sparse arrays."""

from dataclasses import dataclass

import numpy as np

from controller.contingency.building import Building
from controller.contingency.flow import Router
from controller.contingency.losses import Change, Loss, column_power_w, follow, without
from controller.frames import Floats, Ints, Rows

NOTHING = 1e-9  # W per W: less than this is rounding


@dataclass(frozen=True)
class Cells:
    """Survivors: what each stage of each loss moves onto a node, [D]."""

    case: Ints
    stage: Ints
    node: Ints
    delta: Rows  # extra load per W of each rack that hangs otherwise than before
    moved_w: Floats  # load that nobody caps and that moves there


def compile_cells(b: Building, out: frozenset[str], only: frozenset[str] | None) -> tuple[tuple[Loss, ...], Cells]:
    """All losses on top of the elements out, and the load they move."""
    changes: list[Change] = []
    cases = follow(b, out, changes.append, only)
    signed = [(ch, e, sign) for ch in changes for e, sign in ((ch.more, 1.0), (ch.less, -1.0))]
    size = [len(e.node) for _, e, _ in signed]
    stages = max((len(c.stages) for c in cases), default=1)
    nodes, columns = len(b.parent), len(b.column_id) + len(b.parent)
    at = np.repeat(np.array([ch.case * stages + ch.stage for ch, _, _ in signed], dtype=np.int64), size)
    node = _join([e.node for _, e, _ in signed])
    column = _join([e.column for _, e, _ in signed])
    part = _join([e.part for _, e, _ in signed])
    value = np.concatenate([e.coeff * sign for _, e, sign in signed] or [np.zeros(0)])
    key, parts = summed((at * nodes + node) * columns + column, _thirds(part, value))
    cell, column = key // columns, key % columns
    rack = column < b.racks
    share = shares(b)
    coeff = np.where(rack, parts[:, 2] + (parts[:, :2] * share[np.where(rack, column, 0)]).sum(axis=1), parts[:, 2])
    used, of = np.unique(cell, return_inverse=True)
    # what vanishes is not counted on: a load that dies leaves its share in the row
    gained_w = np.where(rack, 0.0, np.maximum(coeff, 0.0)) * column_power_w(b)[np.where(rack, 0, column)]
    moved_w = np.zeros(len(used))
    np.add.at(moved_w, of, gained_w)
    most = np.full(len(used), -np.inf)
    np.maximum.at(most, of, np.where(rack, coeff, -np.inf))
    keep = (most > NOTHING) | (moved_w > 1.0)
    entry = keep[of] & rack & (np.abs(parts) > NOTHING).any(axis=1)
    number = np.cumsum(keep) - 1
    delta = csr(number[of[entry]], int(keep.sum()), column[entry], parts[entry], coeff[entry])
    used = used[keep]
    where = used // nodes
    return cases, Cells(where // stages, where % stages, used % nodes, delta, moved_w[keep])


def _join(parts: list[Ints]) -> Ints:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def shares(b: Building) -> Floats:
    """Cord shares as built [R, 2]."""
    return b.share[: 2 * b.racks].reshape(-1, 2)


def summed(key: Ints, parts: Floats) -> tuple[Ints, Floats]:
    """Distinct keys in order, and the sum over each of their parts [E, 3]."""
    order = np.argsort(key, kind="stable")
    key, parts = key[order], parts[order]
    first = np.flatnonzero(np.diff(key, prepend=-1))
    return key[first], np.add.reduceat(parts, first, axis=0) if len(first) else parts


def base_rows(b: Building, out: frozenset[str]) -> Rows:
    """Load of each node per W of rack before a loss, elements `out` by plan [N]."""
    before, _ = without(b, out)
    e = Router(b).carried(before, np.arange(b.racks), frozenset(), frozenset())
    key, parts = summed(e.node * b.racks + e.column, _thirds(e.part, e.coeff))
    node, rack = key // b.racks, key % b.racks
    coeff = parts[:, 2] + (parts[:, :2] * shares(b)[rack]).sum(axis=1)
    return csr(node, len(b.parent), rack, parts, coeff)


def _thirds(part: Ints, value: Floats) -> Floats:
    """Values in the column of their part [E, 3]."""
    out = np.zeros((len(value), 3))
    out[np.arange(len(value)), part] = value
    return out


def after_rows(base: Rows, delta: Rows, node: Ints, cells: Ints) -> Rows:
    """Load of the survivors of `cells` after their loss, per W of every rack, at the coefficients in force."""
    rows, racks, parts = [], [], []
    for source, at in ((base, node[cells]), (delta, cells)):
        size = np.diff(source.indptr)[at]
        of = np.repeat(np.arange(len(cells)), size)
        entry = source.indptr[at][of] + np.arange(len(of)) - np.repeat(np.cumsum(size) - size, size)
        rows.append(of)
        racks.append(source.racks[entry])
        parts.append(np.column_stack([source.cords[entry], source.fixed[entry], source.coeff[entry]]))
    wide = 1 + int(max((x.max(initial=0) for x in racks), default=0))
    key, total = summed(_join(rows) * wide + _join(racks), np.concatenate(parts))
    total[np.abs(total) < NOTHING] = 0.0
    kept = total.any(axis=1)
    key, total = key[kept], total[kept]
    return csr(key // wide, len(cells), key % wide, total[:, :3], np.maximum(total[:, 3], 0.0))


def csr(of_entry: Ints, rows: int, racks: Ints, parts: Floats, coeff: Floats) -> Rows:
    """CSR from entries that are sorted by row."""
    indptr = np.searchsorted(of_entry, np.arange(rows + 1)).astype(np.int64)
    return Rows(indptr, racks, coeff, of_entry, fixed=parts[:, 2], cords=parts[:, :2])
