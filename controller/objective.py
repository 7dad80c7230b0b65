"""What the filling is for: tenants' guarantees first, then fair levels or the most work."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from controller.frames import Bools, Floats, Ints
from controller.kernels.fill import FillInputs, FillResult, FillTopology, fill, level_of
from controller.kernels.work import WorkResult, throughput
from controller.plan import Plan

Objective = Literal["fair", "throughput"]
TIGHT = 1e-9  # relative
FILLED = 1e-3  # relative: a row with a price this near its limit holds its gangs


@dataclass(frozen=True)
class Guarantees:
    """Tenants with a guarantee, T of them."""

    tenant_of: Ints  # [R] -1: of a tenant without one, or nobody's
    guarantee_w: Floats  # [T]
    row: Ints  # [T] row of the filling that sums the tenant's racks, -1 where it has none (one rack)
    filling: FillTopology | None = None  # of this stage alone: each filling's guess then serves its next one


def guarantees(plan: Plan, kept: Ints, filling: FillTopology | None = None) -> Guarantees | None:
    """The guarantees of a site, None if there are none; `kept` [K'] is the plan's row of each row of the filling.

    The stage gets a twin of `filling`.
    """
    tenants = np.flatnonzero(plan.tenant_guarantee_w > 0.0)
    if not len(tenants):
        return None
    tenant_of = np.full(len(plan.max_w), -1, dtype=np.int64)
    place = np.full(max(len(plan.row_name), int(kept.max(initial=-1)) + 1), -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    rows = plan.tenant_row.start + tenants
    for i, row in enumerate(rows):
        tenant_of[plan.rows.racks[plan.rows.indptr[row] : plan.rows.indptr[row + 1]]] = i
    own = None if filling is None else filling.twin()
    return Guarantees(tenant_of, plan.tenant_guarantee_w[tenants], place[rows], own)


def guarantee_stage(promised: Guarantees | None, topology: FillTopology, inputs: FillInputs) -> Floats:
    """Floors of the filling proper [R, W]: what the first stage gives.

    The gangs of tenants with a guarantee are filled class by class up to it, everybody else at the floor. A gang
    that asks for less gets less; a limit that holds a guarantee back is the second stage's to name.
    """
    if promised is None:
        return inputs.floor_w
    mine = promised.tenant_of >= 0
    limit_w, ceiling_w = inputs.limit_w.copy(), inputs.ceiling_w
    summed = promised.row >= 0
    limit_w[promised.row[summed]] = np.minimum(limit_w[promised.row[summed]], promised.guarantee_w[summed])
    if not summed.all():
        alone = mine & ~summed[promised.tenant_of]
        ceiling_w = np.where(alone, np.minimum(ceiling_w, promised.guarantee_w[promised.tenant_of]), ceiling_w)
    gpus = (inputs.gpu_w > 0.0) & (inputs.demand_w > inputs.other_w)  # their power is never below the other power
    least_w = np.maximum(inputs.floor_w, np.where(gpus, inputs.other_w, 0.0))
    demand_w = np.where(mine, inputs.demand_w, least_w)
    first = replace(inputs, floor_w=least_w, demand_w=demand_w, ceiling_w=ceiling_w, limit_w=limit_w)
    filling = topology if promised.filling is None else promised.filling
    return np.asarray(np.maximum(fill(filling, first).power_w, inputs.floor_w))


def served(
    objective: Objective,
    topology: FillTopology,
    inputs: FillInputs,
    weight: Floats,
    promised: Guarantees | None = None,
) -> FillResult:
    """Powers and levels of the site's objective, guarantees first; what binds them as `fill` says it.

    weight [G]: worth of a rack at full level, for `throughput` only. There a gang's row is the tight one that costs
    it most, and its level is that of the curves themselves.
    """
    given = replace(inputs, floor_w=guarantee_stage(promised, topology, inputs))
    if objective == "fair":
        return fill(topology, given)
    return _as_filling(topology, given, throughput(topology, given, weight))


def _as_filling(topology: FillTopology, inputs: FillInputs, result: WorkResult) -> FillResult:
    """An answer for the most work in the words of the filling."""
    coef = topology.coef if inputs.coef is None else inputs.coef
    rows = len(topology.row_start) - 1
    of_entry = np.repeat(np.arange(rows), np.diff(topology.row_start))
    load_w, floors_w = (
        np.bincount(of_entry, coef * w[topology.row_block], minlength=rows).astype(np.float64)
        for w in (result.power_w, inputs.floor_w)
    )
    full = load_w >= inputs.limit_w * (1.0 - np.where(result.price > 0.0, FILLED, TIGHT))
    demand_w = np.maximum(inputs.demand_w, inputs.floor_w)
    level = level_of(topology, inputs, result.power_w)
    return FillResult(
        power_w=result.power_w,
        level=level,
        binding_row=_binding(topology, inputs, result, level, load_w, full, of_entry),
        at_floor=_none_of(topology, result.power_w > inputs.floor_w * (1.0 + TIGHT)),
        row_load_w=load_w,
        tight=full,
        violated=floors_w > inputs.limit_w + TIGHT * np.maximum(np.abs(inputs.limit_w), floors_w),
        over_ceiling=(inputs.ceiling_w < inputs.floor_w) & (inputs.ceiling_w < demand_w),
    )


def _none_of(topology: FillTopology, racks: Bools) -> Bools:
    """Gangs none of whose racks is marked [G]."""
    return np.asarray(np.bincount(topology.gang_of, racks, minlength=len(topology.gang_class)) == 0.0)


def _binding(
    topology: FillTopology,
    inputs: FillInputs,
    result: WorkResult,
    level: Floats,
    load_w: Floats,
    full: Bools,
    of_entry: Ints,
) -> NDArray[np.int32]:
    """What holds each gang, as in FillResult.binding_row: of its rows the dearest, among equals the fullest."""
    gangs = len(topology.gang_class)
    bound = np.full(gangs, -1, dtype=np.int32)
    coef = topology.coef if inputs.coef is None else inputs.coef
    loaded = np.flatnonzero(coef > 0.0)
    gang, row = topology.gang_of[topology.row_block[loaded]], of_entry[loaded]
    with np.errstate(divide="ignore", invalid="ignore"):
        use = np.nan_to_num(load_w / inputs.limit_w, posinf=0.0)
    order = np.lexsort((use[row], full[row], result.price[row] * coef[loaded]))
    bound[gang[order]] = row[order]  # the last written is the dearest
    ceiling_w = np.maximum(inputs.ceiling_w, inputs.floor_w)
    own = np.flatnonzero((ceiling_w < inputs.demand_w) & (result.power_w >= ceiling_w * (1.0 - TIGHT)))
    bound[topology.gang_of[own]] = -2 - own
    bound[level >= 1.0 - TIGHT] = -1
    return bound
