"""The site at full demand by its file alone: every rack asks for its nameplate, nothing is measured.

For questions when no controller runs. The real stages of limits and allocation answer; only what they are told is made
up: ratings at their worst, other load and cooling as the site file has them.
"""

from dataclasses import replace

import numpy as np

from controller import allocate, cycle, limits
from controller.frames import Estimate, Frames, Mode, Requests
from controller.plan import Plan
from drivers.inventory import Inventory

NOTE = "no controller runs for this site: by the site file, at full demand"


def design(plan: Plan, inventory: Inventory) -> tuple[Frames, cycle.State]:
    """Frames and state of that moment; the caps are those that the allocation comes to, whatever the ramps."""
    state = cycle.begin(plan, 1, 0.0)
    blank, _ = cycle.step(plan, inventory.table().snapshot(0.0), Requests(mode=Mode.SHADOW), state)
    known = _full_demand(plan, blank.estimate)
    bounds, state.limits = limits.narrow(plan, blank.image, known, Requests(), limits.begin(plan))
    past_s = -10.0 * allocate.TAKEOVER_S  # no start to go gently from
    proposal, state.allocate = allocate.allocate(plan, 0.0, known, bounds, cycle.NOTHING, allocate.begin(plan, past_s))
    known = replace(known, load_w=plan.rows.dot(proposal.cap_w) + known.other_w)
    orders = replace(
        blank.orders,
        cap_w=proposal.cap_w,
        safe_cap_w=proposal.safe_cap_w,
        reason=proposal.reason,
        row=proposal.row,
        charge_w=proposal.cap_w,
        mode=Mode.LIVE,
    )
    return Frames(replace(blank.image, charge_w=proposal.cap_w), known, bounds, proposal, orders), state


def _full_demand(plan: Plan, blank: Estimate) -> Estimate:
    """Every rack obeys and asks for its nameplate; caps start at the floors, from where they only go up."""
    racks = len(plan.max_w)
    other_w = plan.design_other_w.copy()
    other_w[plan.envelope_row] -= plan.cooling_w_per_w * float(plan.max_w.sum())  # it is in the row's coefficients
    return replace(
        blank,
        demand_w=plan.max_w.copy(),
        cap_found_w=plan.floor_w.copy(),
        constant_w=np.full(racks, np.nan),
        disobedient=np.zeros(racks, dtype=np.bool_),
        load_w=np.zeros(len(other_w)),
        other_w=other_w,
        covered=True,
    )
