"""What the filling is for: tenants' guarantees first, then fair levels or the most work."""

from dataclasses import dataclass, replace

import numpy as np

from controller.frames import Floats, Ints
from controller.kernels.fill import FillInputs, FillTopology, fill
from controller.plan import Plan


@dataclass(frozen=True)
class Guarantees:
    """Tenants with a guarantee, T of them."""

    tenant_of: Ints  # [R] -1: of a tenant without one, or nobody's
    guarantee_w: Floats  # [T]
    row: Ints  # [T] row of the filling that sums the tenant's racks, -1 where it has none (one rack)


def guarantees(plan: Plan, kept: Ints) -> Guarantees | None:
    """The guarantees of a site, None if there are none; `kept` [K'] is the plan's row of each row of the filling."""
    tenants = np.flatnonzero(plan.tenant_guarantee_w > 0.0)
    if not len(tenants):
        return None
    tenant_of = np.full(len(plan.max_w), -1, dtype=np.int64)
    place = np.full(max(len(plan.row_name), int(kept.max(initial=-1)) + 1), -1, dtype=np.int64)
    place[kept] = np.arange(len(kept))
    rows = plan.tenant_row.start + tenants
    for i, row in enumerate(rows):
        tenant_of[plan.rows.racks[plan.rows.indptr[row] : plan.rows.indptr[row + 1]]] = i
    return Guarantees(tenant_of, plan.tenant_guarantee_w[tenants], place[rows])


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
    return np.asarray(np.maximum(fill(topology, first).power_w, inputs.floor_w))
