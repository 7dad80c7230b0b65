"""The most that safe caps may be: so low that the next loss is borne with nobody there to act on it.

Safe caps hold when agents hear nothing more. No corrective set reaches them then: whatever a single loss moves must
fit the survivors' continuous ratings as it is (CONTROL.md, Leases). A loss that its survivors do not bear with every
rack at its floor holds nobody back; the controller says of it that it is not secured.
"""

import numpy as np

from controller.frames import Bools, Floats
from controller.kernels.fill import FillInputs, build_topology, fill
from controller.plan import Plan
from controller.policies import rating
from controller.policies.grid import METER_ERROR
from drivers.lease.message import MAX_DECAY_S
from drivers.site.sums import FALL, site_w

LINE = ((0.0, 1.0), (0.0, 1.0))  # caps rise alike, whatever the work
OVER = 1e-9
DRAWN = 1.05  # the paces that the agents of a small site draw may lie a little higher than they do on average


def most_w(plan: Plan) -> Floats:
    """The site file's safe caps, lowered for the losses that floors can bear [R, W]; by the site file's other load."""
    losses = plan.losses
    other_w = np.maximum(plan.design_other_w[plan.node_row], 0.0)
    fixed_w = other_w[losses.delta_node] + losses.delta_moved_w
    room_w = rating.nominal_w(plan)[losses.delta_node] * (1.0 - METER_ERROR) - fixed_w
    over, unborne = (_load_w(plan, cap_w) > room_w * (1.0 + OVER) for cap_w in (plan.safe_cap_w, plan.floor_w))
    hopeless = np.zeros(len(losses.cases), dtype=np.bool_)
    hopeless[losses.delta_case[unborne]] = True
    return _under(plan, over & ~hopeless[losses.delta_case], room_w)


def decay_s(plan: Plan, safe_cap_w: Floats) -> float:
    """Time that caps need from the envelope down to these safe caps [R], inside the site's ramp [s].

    The site file's where that is longer; site check has proved that one for the site file's own safe caps.
    """
    site, control = plan.site, plan.site.control
    safe_w = dict(zip(site.rack_index, safe_cap_w.tolist(), strict=True))
    top_w = min(site_w(site, lambda r: r.max_w), control.envelope_w)
    fall_w = DRAWN * FALL * (top_w - site_w(site, lambda r: safe_w[r.id]))
    return min(max(control.lease_decay_s, fall_w / control.ramp_down_w_per_s), MAX_DECAY_S)


def _load_w(plan: Plan, cap_w: Floats) -> Floats:
    """What racks at `cap_w` [R] put on the survivors [D, W]."""
    load_w: Floats = plan.losses.base.dot(cap_w)[plan.losses.delta_node] + plan.losses.delta.dot(cap_w)
    return load_w


def _under(plan: Plan, cells: Bools, room_w: Floats) -> Floats:
    """Highest equal caps, as shares of nameplate between floor and safe cap, under the rows of `cells` [D]."""
    if not cells.any():
        return plan.safe_cap_w.copy()
    chosen = np.flatnonzero(cells)
    rows = plan.losses.after(chosen)
    racks = len(plan.max_w)
    topology = build_topology(np.arange(racks), np.zeros(racks), rows.indptr, rows.racks, rows.coeff, (LINE,))
    given = FillInputs(
        floor_w=plan.floor_w,
        demand_w=np.maximum(plan.safe_cap_w, plan.floor_w),
        ceiling_w=np.full(racks, np.inf),
        other_w=np.minimum(plan.other_w, plan.floor_w),
        gpu_w=plan.gpu_w,
        curve_of=np.zeros(racks, dtype=np.int32),
        limit_w=room_w[chosen],
        coef=rows.coeff,
    )
    caps_w = fill(topology, given).power_w
    return np.maximum(np.floor(caps_w / plan.resolution_w) * plan.resolution_w, plan.floor_w)
