"""Index arrays of the filling, made once per site: gangs, rows both ways, curves, scratch."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from controller.kernels.fill_events import BUCKETS
from controller.kernels.fill_solve import ENTRIES, Work

STRAIGHT = 1e-12  # relative: a point between segments of equal slope is none
Curve = tuple[Sequence[float], Sequence[float]]
Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


class FillError(ValueError):
    """The filling was given arrays that do not fit together, or did not end within its cap on steps."""


@dataclass(frozen=True)
class FillTopology:
    """What changes only with the site: R racks in G gangs, K rows with N non-zero coefficients, C curves.

    gang_of [R], gang_class [G] (0 is served first), racks by gang (gang_start [G + 1], gang_rack [R]), rows in CSR over
    blocks of racks (block_start [B + 1]; row_start [K + 1], row_block [N], coef [N], all >= 0). Made by
    `build_topology`; holds the scratch arrays of the kernel and its guess of the rows that bind, under a lock.
    """

    gang_of: Ints
    gang_class: Ints
    gang_start: Ints
    gang_rack: Ints
    block_start: Ints
    row_start: Ints
    row_block: Ints
    coef: Floats
    knots: Floats
    work: Work = field(repr=False, compare=False)
    lock: Lock = field(repr=False, compare=False)

    @cached_property
    def by_class(self) -> tuple[Ints, Ints]:
        """`by_class` of its own classes."""
        return by_class(self.gang_class)

    def twin(self) -> "FillTopology":
        """The same structure with scratch and a guess of its own."""
        w = self.work
        sizes = (len(w.gang_of), len(w.block_w), len(w.gang), len(w.load_w), len(self.coef), self.knots.shape[1])
        work = w._replace(**_scratch(*sizes))
        work.tally[ENTRIES] = w.tally[ENTRIES]
        return replace(self, work=work, lock=Lock())


def build_topology(
    gang_of: ArrayLike,
    gang_class: ArrayLike,
    row_start: ArrayLike,
    row_block: ArrayLike,
    coef: ArrayLike,
    curves: Sequence[Curve],
    block_start: ArrayLike | None = None,
) -> FillTopology:
    """Index arrays for `fill`: gang_of [R], gang_class [G], rows in CSR, curves as (shares, throughputs).

    `block_start` [B + 1] parts the racks into blocks of neighbours that every row loads alike, such as the GPUs of a
    rack, and `row_block` [N] counts them; without it every rack is a block.
    Raises FillError when an index is out of range, a coefficient is negative or a curve does not rise strictly from
    a first point that is (0, 0) or positive in both.
    """
    racks, classes = np.array(gang_of, np.int32), np.array(gang_class, np.int32)
    start, entries = np.array(row_start, np.int32), np.array(row_block, np.int32)
    a = np.array(coef, np.float64)
    blocks = np.arange(len(racks) + 1, dtype=np.int32) if block_start is None else np.array(block_start, np.int32)
    _check(racks, len(classes), blocks, start, entries, a)
    knots = _knots(curves)
    gang_rack, gang_start = _group(racks, len(classes))
    structure: dict[str, Any] = {
        "gang_of": racks,
        "gang_start": gang_start,
        "gang_rack": gang_rack,
        "row_start": start,
        "row_block": entries,
        "block_start": blocks,
        "knots": knots,
    }
    size = np.diff(blocks)
    block_of = np.repeat(np.arange(len(size), dtype=np.uint32), size)
    indices = {name: structure[name].view(np.uint32) for name in ("gang_rack", "row_block")} | {"block_of": block_of}
    scratch = _scratch(len(racks), len(size), len(classes), len(start) - 1, len(a), knots.shape[1])
    work = Work(**{**structure, **indices}, **scratch)
    work.tally[ENTRIES] = size[entries].sum()
    return FillTopology(gang_class=classes, coef=a, work=work, lock=Lock(), **structure)


def by_class(classes: Ints) -> tuple[Ints, Ints]:
    """Gangs [G] by class, and where each class begins and the last ends."""
    order = np.argsort(classes, kind="stable").astype(np.int32)
    steps = np.flatnonzero(np.diff(classes[order])) + 1
    return order, np.unique((0, *steps, len(classes))).astype(np.int32)  # no gangs, no class


def _check(racks: Ints, n_gang: int, blocks: Ints, start: Ints, entries: Ints, a: Floats) -> None:
    """FillError unless the index arrays fit together."""
    if racks.size and not 0 <= racks.min() <= racks.max() < n_gang:
        raise FillError("gang_of names a gang that is not there")
    if not blocks.size or blocks[0] != 0 or blocks[-1] != len(racks) or (np.diff(blocks) < 1).any():
        raise FillError("block_start does not part the racks into blocks")
    if not start.size or start[0] != 0 or start[-1] != len(entries) or (np.diff(start) < 0).any():
        raise FillError("row_start does not span row_block")
    if len(entries) != len(a) or (entries.size and not 0 <= entries.min() <= entries.max() < len(blocks) - 1):
        raise FillError("row_block names a block that is not there, or does not match coef")
    if not (np.isfinite(a) & (a >= 0.0)).all():
        raise FillError("a coefficient is negative or unknown")


def _group(of: Ints, n: int) -> tuple[Ints, Ints]:
    """Members by group in their own order, and where each of the `n` groups starts."""
    start = np.zeros(n + 1, np.int32)
    start[1:] = np.cumsum(np.bincount(of, minlength=n))
    return np.argsort(of, kind="stable").astype(np.int32), start


def _knots(curves: Sequence[Curve]) -> Floats:
    """Padded curves from (0, 0) on, each with its inverse slopes; one more, the straight line, comes last."""
    points = []
    for number, (shares, throughputs) in enumerate((*curves, ((0.0, 1.0), (0.0, 1.0)))):
        xy = np.column_stack((shares, throughputs)).astype(np.float64)
        if (xy[0] > 0.0).all():
            xy = np.vstack((np.zeros(2), xy))
        if (xy[0] != 0.0).any() or len(xy) < 2 or not np.isfinite(xy).all() or not (np.diff(xy, axis=0) > 0.0).all():
            raise FillError(f"curve {number} does not rise strictly from (0, 0) or a point positive in both")
        rate = np.diff(xy[:, 1]) / np.diff(xy[:, 0])
        bend = np.abs(np.diff(rate)) > STRAIGHT * rate[1:]
        points.append(xy[np.concatenate(([True], bend, [True]))])
    knots = np.full((len(points), max(map(len, points)) + 2, 4), np.inf)
    for c, xy in enumerate(points):
        knots[c, : len(xy), :2] = xy
        knots[c, : len(xy) - 1, 2] = np.diff(xy[:, 0]) / np.diff(xy[:, 1])
        knots[c, : len(xy) - 1, 3] = np.diff(xy[:, 1]) / np.diff(xy[:, 0])
    return knots


def _scratch(n_rack: int, n_block: int, n_gang: int, n_row: int, n_entry: int, n_knot: int) -> dict[str, Any]:
    """Everything of `Work` that a filling writes."""
    n_event = n_rack * n_knot + n_gang
    floats = {
        "rack": (n_rack, 6),
        "line_w": n_rack,
        "slope_w": n_rack,
        "above_w": n_rack,
        "gang": (n_gang, 8),
        "row": (n_row, 4),
        "live_coef": n_entry,
        "chosen_coef": n_entry,
        "raw_level": n_event,
        "event_level": n_event,
        "keep": n_rack,
        "power_w": n_rack,
        "block_w": n_block,
        "block_above_w": n_block,
        "block_slope_w": n_block,
        "load_w": n_row,
        "floor_load_w": n_row,
    }
    ints = {
        "order": n_gang,
        "stopped": n_gang,
        "step": n_gang,
        "touched": n_row,
        "curve": n_rack,
        "blocked": n_rack,
        "number": n_row,
        "heap": (2, n_row),
        "live": (n_block, 2),
        "raw_what": (n_event, 2),
        "event_what": (n_event, 2),
        "bucket": BUCKETS + 2,
        "tally": 7,
    }
    flags = dict.fromkeys(("guess", "could", "chosen", "tight", "violated"), n_row) | {"over_ceiling": n_rack}
    kinds: tuple[tuple[dict[str, Any], type], ...] = (
        (floats, np.float64),
        (ints, np.int32),
        (flags, np.bool_),
        ({"live_row": n_entry}, np.uint32),
    )
    made = {name: np.zeros(shape, dtype) for names, dtype in kinds for name, shape in names.items()}
    if n_block == n_rack:
        made |= {"block_w": made["power_w"], "block_above_w": made["above_w"], "block_slope_w": made["slope_w"]}
    return made
