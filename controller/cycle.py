"""The visible line: wires -> Image -> Estimate -> Limits -> Proposal -> Orders -> wires.

The only place that knows the order. Synchronous, no I/O, holds the states: the same step runs live and in lock-step.
"""

from dataclasses import dataclass

from controller import actuate, allocate, blind, estimate, gpus, guard, image, limits
from controller.corrective import Prepared
from controller.frames import Frames, Requests
from controller.plan import Plan
from drivers.lease import Ledger
from drivers.points import Snapshot
from drivers.wires import Command

NOTHING = Prepared({})


@dataclass
class State:
    """Every stage's own last state, and the ledger of leases."""

    cycle: int
    ledger: Ledger
    image: image.ImageState
    estimate: estimate.EstimateState
    limits: limits.LimitsState
    allocate: allocate.AllocateState
    guard: guard.GuardState
    actuate: actuate.ActuateState
    gpus: gpus.GpuState | None


def begin(plan: Plan, epoch: int, now_s: float) -> State:
    """States before the first cycle; `epoch` must be higher than any predecessor's."""
    control, allocation = plan.site.control, allocate.begin(plan, now_s)
    ledger = Ledger(
        plan.max_w,
        plan.safe_cap_w.astype("int64"),
        epoch=epoch,
        ttl_s=control.lease_ttl_s,
        decay_s=blind.decay_s(plan, allocation.most_safe_w),
        now_s=now_s,
    )
    return State(
        0,
        ledger,
        image.begin(plan, now_s),
        estimate.begin(plan, now_s),
        limits.begin(plan),
        allocation,
        guard.begin(plan, now_s),
        actuate.begin(plan),
        gpus.begin(plan),
    )


def step(
    plan: Plan, shot: Snapshot, requests: Requests, state: State, prepared: Prepared = NOTHING
) -> tuple[Frames, tuple[Command, ...]]:
    """One cycle: what the wires brought in, the commands to send out; `state` moves on.

    `prepared` are the corrective sets kept ready: a loss without one is solved when it is seen.
    """
    now_s = shot.now_s
    seen, state.image = image.take(plan, shot, state.cycle, state.ledger, state.image)
    known, state.estimate = estimate.estimate(plan, seen, state.estimate)
    bounds, state.limits = limits.narrow(plan, seen, known, requests, state.limits)
    wanted, state.allocate = allocate.allocate(plan, now_s, known, bounds, prepared, state.allocate)
    orders, state.guard = guard.guard(plan, seen, wanted, state.guard)
    orders, state.gpus = gpus.divide(plan, seen, orders, state.gpus)
    commands, state.actuate = actuate.actuate(plan, orders, state.ledger, now_s, state.actuate)
    state.cycle += 1
    return Frames(seen, known, bounds, wanted, orders), commands
