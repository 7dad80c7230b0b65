"""Problems for the bench of the allocation: `colossus` at full demand, its GPUs, its parts and its multiples."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from controller.design import design
from controller.frames import Frames
from controller.kernels.fill import Curve, FillInputs, FillTopology, build_topology
from controller.plan import Plan, compile_plan
from controller.problem import compile_structure, rack_curves
from drivers.inventory import compile_inventory
from drivers.profile import load_profiles
from drivers.site.load import resolve_site

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SEGMENTS = 6  # at least, of every curve
BULGE = 0.01  # how far a point added to a curve lies above its straight line, as a share of the segment's gain
LINE: Curve = ((1.0,), (1.0,))


@dataclass(frozen=True)
class Problem:
    """What one filling is given: structure, curves as points from (0, 0) on, and inputs."""

    topology: FillTopology
    curves: tuple[Curve, ...]
    inputs: FillInputs


@dataclass(frozen=True)
class Colossus:
    """The site with the frames of a moment at full demand, and the problem of its racks."""

    plan: Plan
    frames: Frames
    problem: Problem
    present: int  # of its rows, the first so many are of the present state, the others of losses


def colossus() -> Colossus:
    """Every rack asks for its nameplate, limits are the site's own at worst, losses among them; curves are bent."""
    site = resolve_site("colossus")
    inventory = compile_inventory(site, load_profiles())
    plan = compile_plan(site, inventory)
    frames, _ = design(plan, inventory)
    structure, rows, room_w = compile_structure(plan), frames.estimate.rows, frames.limits.room_w
    alone = np.flatnonzero(~structure.entry & (rows.coeff > 0.0))  # rows of one rack are its ceiling
    ceiling_w = np.full(len(plan.max_w), np.inf)
    np.minimum.at(ceiling_w, rows.racks[alone], room_w[rows.of_entry[alone]] / rows.coeff[alone])
    given = FillInputs(
        floor_w=plan.floor_w,
        demand_w=plan.max_w,
        ceiling_w=np.maximum(ceiling_w, plan.floor_w),
        other_w=plan.other_w,
        gpu_w=plan.gpu_w,
        curve_of=structure.curve_of,
        limit_w=room_w[structure.kept],
        coef=rows.coeff[structure.entry],
    )
    curves = tuple(bent(curve) for curve in rack_curves(plan)[0])
    topology = structure.served
    problem = rebuilt(Problem(topology, curves, given), topology.gang_of, topology.gang_class)
    return Colossus(plan, frames, problem, int(np.searchsorted(structure.kept, len(plan.row_name))))


def bent(curve: Curve) -> Curve:
    """The curve from (0, 0) on with at least SEGMENTS segments, the longest halved and bent upward by BULGE."""
    x, y = (list(np.concatenate(([0.0], values))) for values in curve)
    if curve[0][0] == 0.0:
        x, y = x[1:], y[1:]
    while len(x) <= SEGMENTS:
        j = int(np.argmax(np.diff(x)))
        x.insert(j + 1, (x[j] + x[j + 1]) / 2)
        y.insert(j + 1, (y[j] + y[j + 1]) / 2 + BULGE * (y[j + 1] - y[j]))
    return tuple(map(float, x)), tuple(map(float, y))


def rebuilt(problem: Problem, gang_of: ArrayLike, gang_class: ArrayLike) -> Problem:
    """The same racks and rows with other gangs."""
    t = problem.topology
    rows = (t.row_start, t.row_block, coefficients(problem))
    topology = build_topology(gang_of, gang_class, *rows, problem.curves, t.block_start)
    return replace(problem, topology=topology)


def coefficients(problem: Problem) -> Floats:
    """Of the rows, as given this cycle."""
    given = problem.inputs.coef
    return problem.topology.coef if given is None else given


def by_rack(problem: Problem) -> tuple[FillInputs, FillTopology, Floats]:
    """Inputs, topology and coefficients where every rack is a block of its own; ValueError where one is not."""
    if len(problem.topology.block_start) != len(problem.topology.gang_of) + 1:
        raise ValueError("racks in blocks: take them apart first (`unshared`)")
    return problem.inputs, problem.topology, coefficients(problem)


def nonzeros(problem: Problem) -> int:
    """Of the matrix of rows and leaves."""
    t = problem.topology
    return int(np.diff(t.block_start)[t.row_block].sum())


def single_gangs(problem: Problem) -> Problem:
    """Every rack its own gang, in the class it was in."""
    t = problem.topology
    return rebuilt(problem, np.arange(len(t.gang_of)), t.gang_class[t.gang_of])


def with_curves(problem: Problem, curves: tuple[Curve, ...]) -> Problem:
    """The same with other curves; a single one is everybody's."""
    curve_of = problem.inputs.curve_of if len(curves) > 1 else np.zeros_like(problem.inputs.curve_of)
    other = Problem(problem.topology, curves, replace(problem.inputs, curve_of=curve_of))
    return rebuilt(other, problem.topology.gang_of, problem.topology.gang_class)


def pressed(problem: Problem, rng: np.random.Generator, least: float = 0.7, most: float = 1.5) -> Problem:
    """Each row may have at most `least` to `most` of what its racks, at their own ceilings, want above their floors."""
    i, t, coef = by_rack(problem)
    row = np.repeat(np.arange(len(i.limit_w)), np.diff(t.row_start))
    highest_w = np.maximum(np.minimum(i.demand_w, i.ceiling_w), i.floor_w)
    low_w, high_w = (np.bincount(row, coef * w[t.row_block], len(i.limit_w)) for w in (i.floor_w, highest_w))
    limit_w = low_w + rng.uniform(least, most, len(low_w)) * (high_w - low_w)
    return replace(problem, inputs=replace(i, limit_w=np.minimum(i.limit_w, limit_w)))


def jittered(problem: Problem, rng: np.random.Generator, share: float) -> FillInputs:
    """The inputs of another cycle: every demand up to `share` lower."""
    i = problem.inputs
    demand_w = i.demand_w * (1.0 - share * rng.random(len(i.demand_w)))
    return replace(i, demand_w=np.maximum(demand_w, i.floor_w))


def thinned(problem: Problem, present: int, entries: int) -> Problem:
    """All rows of the present state and an even part of those of losses, so that `entries` are not exceeded."""
    i, t, coef = by_rack(problem)
    size = np.diff(t.row_start)
    lost, every = np.arange(present, len(size)), 1
    while size[:present].sum() + size[lost[::every]].sum() > entries and every < len(lost):
        every += 1
    kept = np.concatenate((np.arange(present), lost[::every]))
    entry = np.isin(np.repeat(np.arange(len(size)), size), kept)
    start = np.append(0, np.cumsum(size[kept]))
    given = replace(i, limit_w=i.limit_w[kept], coef=coef[entry])
    topology = build_topology(t.gang_of, t.gang_class, start, t.row_block[entry], coef[entry], problem.curves)
    return Problem(topology, problem.curves, given)


def leaves(problem: Problem, count: int, gang: int, rng: np.random.Generator) -> Problem:
    """Every rack parted into GPUs, `count` in all, with demands of their own, in gangs of `gang`; straight curves.

    Rows are the racks' over blocks of their GPUs, and one more for each rack: its own ceiling.
    """
    i, t = problem.inputs, problem.topology
    racks = len(t.gang_of)
    size = np.full(racks, count // racks) + (np.arange(racks) < count % racks)
    rack = np.repeat(np.arange(racks), size)
    index = np.append(t.row_block, np.arange(racks))
    coef = np.append(coefficients(problem), np.ones(racks))
    start = np.append(t.row_start, t.row_start[-1] + np.arange(1, racks + 1))
    part = 1.0 / size[rack]
    gpu_w, other_w = i.gpu_w[rack] * part, i.other_w[rack] * part
    demand_w = other_w + (i.demand_w[rack] * part - other_w) * rng.uniform(0.8, 1.0, count)
    given = FillInputs(
        floor_w=i.floor_w[rack] * part,
        demand_w=demand_w,
        ceiling_w=np.full(count, np.inf),
        other_w=other_w,
        gpu_w=gpu_w,
        curve_of=np.zeros(count, np.int32),
        limit_w=np.append(i.limit_w, i.ceiling_w),
        coef=coef,
    )
    gang_of = np.arange(count) // gang
    gang_class = t.gang_class[t.gang_of[rack[::gang]]]
    blocks = np.append(0, np.cumsum(size))
    topology = build_topology(gang_of, gang_class, start, index, coef, (LINE,), blocks)
    return Problem(topology, (LINE,), given)


def unshared(problem: Problem) -> Problem:
    """The same with every entry of every leaf written out: each is a block of its own."""
    i, t = problem.inputs, problem.topology
    size = np.diff(t.block_start)[t.row_block]
    within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    leaf = np.repeat(t.block_start[t.row_block], size) + within
    start = np.append(0, np.cumsum(size))[t.row_start]
    coef = np.repeat(coefficients(problem), size)
    topology = build_topology(t.gang_of, t.gang_class, start, leaf, coef, problem.curves)
    return Problem(topology, problem.curves, replace(i, coef=coef))


def sized(problem: Problem, share: float) -> Problem:
    """The first part of the racks with their part of each row (`share` below 1), or as many copies of the site."""
    return _copies(problem, round(share)) if share >= 1.0 else _part(problem, share)


def _copies(problem: Problem, count: int) -> Problem:
    i, t, coef = by_rack(problem)
    racks, gangs, entries = len(t.gang_of), len(t.gang_class), len(t.row_block)
    copy = np.arange(count)[:, None]
    start = np.append(0, (t.row_start[1:] + copy * entries).ravel())
    gang_of, row_block = (t.gang_of + copy * gangs).ravel(), (t.row_block + copy * racks).ravel()
    given = FillInputs(*(np.tile(values, count) for values in vars(i).values() if values is not None))
    topology = build_topology(
        gang_of, np.tile(t.gang_class, count), start, row_block, np.tile(coef, count), problem.curves
    )
    return Problem(topology, problem.curves, given)


def _part(problem: Problem, share: float) -> Problem:
    i, t, coef = by_rack(problem)
    racks = round(share * len(t.gang_of))
    row = np.repeat(np.arange(len(i.limit_w)), np.diff(t.row_start))
    kept = t.row_block < racks
    load_w = coef * i.demand_w[t.row_block]
    inside_w, full_w = (np.bincount(row[some], load_w[some], len(i.limit_w)) for some in (kept, slice(None)))
    some = np.flatnonzero(inside_w > 0.0)
    kept &= inside_w[row] > 0.0
    start = np.append(0, np.cumsum(np.bincount(row[kept], minlength=len(i.limit_w))[some]))
    gangs, gang_of = np.unique(t.gang_of[:racks], return_inverse=True)
    names = ("floor_w", "demand_w", "ceiling_w", "other_w", "gpu_w", "curve_of")
    values = {name: getattr(i, name)[:racks] for name in names}
    coef = coef[kept]
    given = FillInputs(**values, limit_w=(i.limit_w[some] * inside_w[some]) / full_w[some], coef=coef)
    topology = build_topology(gang_of, t.gang_class[gangs], start, t.row_block[kept], coef, problem.curves)
    return Problem(topology, problem.curves, given)
