"""The protocol of a power policy, and what it may know: public API for those who plug in one of their own.

    class Mine:
        def __init__(self, layout: Layout, seed: int) -> None: ...
        def caps_w(self, seen: Seen) -> Floats: ...  # a cap per rack [W], once a second

Everybody sees the same instruments with the same noise, quality and delay, and acts through the same leases and the
same rack agents. Nothing else is done for a policy: no estimate, no guard, no answer to losses.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeVar

import numpy as np

from controller.frames import Bools, Floats, Ints, Rows
from controller.plan import Plan
from controller.policies import rating
from drivers.inventory import Inventory
from drivers.points import Snapshot
from drivers.site.model import Site

A = TypeVar("A", bound=np.ndarray[Any, Any])


class PolicyError(ValueError):
    """A policy that cannot be found or gives no caps; the message says what to do."""


@dataclass(frozen=True)
class Layout:
    """The building as its designers know it. R racks, N electrical nodes (site order), K limits.

    A limit k is a sum over racks: `rows` holds the racks and what a watt of each adds to it. The first N limits are
    the nodes, then CDUs and loops (heat), tenants with a guarantee or a maximum, and the envelope, whose coefficients
    hold the losses and the cooling that a watt of heat costs.
    """

    site: Site
    inventory: Inventory  # where each point stands in Seen.snapshot
    max_w: Floats  # [R] nameplate
    floor_w: Floats  # [R] lowest cap that the rack obeys
    idle_w: Floats  # [R]
    other_w: Floats  # [R] part of a rack's power that no GPU cap reaches
    safe_cap_w: Floats  # [R] where the cap goes when its lease ends
    priority: Ints  # [R] 0 is served first
    gang_of: Ints  # [R] racks of one gang run at the pace of its slowest; every rack without a training job is its own
    training: Bools  # [R] in a training job; the others serve requests
    parent: Ints  # [N] -1 for a utility feed
    efficiency: Floats  # [N] power out / power in
    rack_pdu: Ints  # [R, 2] nodes of cords A and B
    share: Floats  # [R, 2] of the rack's power on each cord
    rows: Rows  # [K]
    row_name: tuple[str, ...]  # [K]
    row_kind: tuple[str, ...]  # [K] node kind, "cdu", "loop", "tenant" or "envelope"
    limit_w: Floats  # [K] nodes: rating at the worst power factor and voltage; inf where there is none
    design_other_w: Floats  # [K] load that is no rack's, by design; without the cooling that the coefficients hold
    envelope_row: int  # the last


@dataclass(frozen=True)
class Seen:
    """What the instruments show at a cycle; NaN where a value is not fresh and good."""

    now_s: float
    envelope_w: float  # to hold at the utility meters now: the site's, or what the utility asks
    rack_w: Floats  # [R] by the rack's agent; where that is silent, by the PDUs of both cords
    cap_w: Floats  # [R] in force by the agent's report
    node_w: Floats  # [N] by the node's meter
    site_w: float  # sum of the utility meters; NaN where one of them is
    snapshot: Snapshot  # every point with its quality and time, raw


class Policy(Protocol):
    """What decides the caps. It is called once a second with what the instruments show."""

    def caps_w(self, seen: Seen) -> Floats:
        """A cap per rack [R, W]; the agents keep it between the rack's floor and its nameplate."""
        ...


Factory = Callable[[Layout, int], Policy]  # layout of the building, seed of the run


def layout_of(plan: Plan, inventory: Inventory) -> Layout:
    """The layout of a compiled site; its arrays are copies that cannot be written."""
    site = plan.site
    training = {j.id for j in site.jobs if j.kind == "training"}
    limits = (
        rating.nominal_w(plan),
        plan.cdu_cap_w,
        plan.loop_cap_w,
        plan.tenant_max_w,
        np.array([site.control.envelope_w]),
    )
    other_w = plan.design_other_w.copy()
    other_w[plan.envelope_row] -= plan.cooling_w_per_w * plan.max_w.sum()
    return Layout(
        site=site,
        inventory=inventory,
        max_w=_fixed(plan.max_w),
        floor_w=_fixed(plan.floor_w),
        idle_w=_fixed(plan.idle_w),
        other_w=_fixed(plan.other_w),
        safe_cap_w=_fixed(plan.safe_cap_w),
        priority=_fixed(np.array([r.priority for r in site.racks], dtype=np.int64)),
        gang_of=_fixed(plan.gang_of),
        training=_fixed(np.array([r.job in training for r in site.racks], dtype=np.bool_)),
        parent=_fixed(plan.parent),
        efficiency=_fixed(plan.efficiency),
        rack_pdu=_fixed(plan.rack_pdu),
        share=_fixed(plan.share),
        rows=Rows(*(_fixed(getattr(plan.rows, f.name)) for f in fields(Rows))),
        row_name=plan.row_name,
        row_kind=plan.row_kind,
        limit_w=_fixed(np.concatenate(limits)),
        design_other_w=_fixed(other_w),
        envelope_row=plan.envelope_row,
    )


def _fixed(array: A) -> A:
    copy: A = array.copy()
    copy.flags.writeable = False
    return copy
