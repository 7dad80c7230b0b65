"""Static nameplate provisioning: caps from design figures, set once."""

import numpy as np

from controller.frames import Floats
from controller.plan import Plan
from drivers.lease import Lease
from sim.lab.rivals.policy import Layout, Seen, layout_of
from sim.plant.plant import Plant


class Static:
    """Every rack keeps a fixed share of its nameplate: the least that any limit above it was designed to leave.

    Fan, Weber, Barroso, Power Provisioning for a Warehouse-sized Computer, ISCA 2007 (doi:10.1145/1250662.1250665),
    sections 1 and 2: the sum of nameplates under a breaker stays at or below its rating. Where a site holds more
    racks than that, each has the same part of the budget for each watt of nameplate (choice: the paper leaves racks
    out instead). Measures nothing and hears no request, not even the utility's (choice: it is set at the design).
    Nothing is reserved for losses (choice).
    """

    def __init__(self, layout: Layout, seed: int) -> None:
        del seed
        self._caps_w = layout.max_w * shares(layout)

    def caps_w(self, seen: Seen) -> Floats:
        """The same caps always [R, W]."""
        del seen
        return self._caps_w


def shares(layout: Layout) -> Floats:
    """Share of its nameplate that each rack may have by the design [R], at most 1."""
    room_w = np.maximum(layout.limit_w - layout.design_other_w, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = room_w / layout.rows.dot(layout.max_w)
    return np.minimum(layout.rows.rack_min(np.nan_to_num(share, nan=np.inf), len(layout.max_w)), 1.0)


def provision(plant: Plant, plan: Plan) -> None:
    """The site as some policy takes it over: every rack holds the cap that the design leaves it, by a lease of old."""
    caps_w = np.floor(plan.max_w * shares(layout_of(plan, plant.inventory))).astype(np.int64)
    control, holder = plan.site.control, plant.agents.holder
    for group in plant.agents.groups.values():
        racks = group.racks
        lease = Lease(
            group=group.name,
            roster=group.roster,
            epoch=0,
            seq=1,
            ttl_s=control.lease_ttl_s,
            decay_s=control.lease_decay_s,
            echo=holder.beat[racks],
            cap_w=caps_w[racks],
            safe_cap_w=holder.safe_cap_w[racks],
        )
        refused = plant.accept_lease(lease)
        if len(refused) != len(racks) or refused.any():
            raise ValueError(f"{group.name}: refused; only a plant that has just begun takes a lease of before")
