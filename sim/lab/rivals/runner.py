"""Runs a policy where headroom's own cycle would stand: the same readings in, the same leases out."""

import numpy as np

from controller import actuate
from controller.frames import Floats, Ints, Mode, Orders, Requests
from controller.plan import Plan
from drivers.inventory import Inventory
from drivers.lease import Ledger
from drivers.points import Quality, Snapshot
from drivers.wires import Command
from sim.lab.rivals.policy import Factory, PolicyError, Seen, layout_of


class Runner:
    """One policy with its ledger of leases; `epoch` must be higher than any predecessor's."""

    def __init__(
        self, plan: Plan, inventory: Inventory, factory: Factory, *, epoch: int, now_s: float, seed: int
    ) -> None:
        control = plan.site.control
        self._plan = plan
        self._ledger = Ledger(
            plan.max_w,
            plan.safe_cap_w.astype("int64"),
            epoch=epoch,
            ttl_s=control.lease_ttl_s,
            decay_s=control.lease_decay_s,
            now_s=now_s,
        )
        self._sent = actuate.begin(plan)
        self.policy = factory(layout_of(plan, inventory), seed)

    def step(self, shot: Snapshot, requests: Requests) -> tuple[Command, ...]:
        """One cycle: what the instruments show, the leases to send; of requests the envelope, and LIVE or SHADOW.

        PolicyError when the policy gives no caps, or is asked for a mode that is headroom's alone.
        """
        if requests.mode not in (Mode.LIVE, Mode.SHADOW):
            raise PolicyError(
                f"only headroom knows the mode {requests.mode.name.lower()}; a policy runs live or in shadow"
            )
        self._confirm(shot)
        plan, seen = self._plan, see(self._plan, shot, requests)
        cap_w = np.asarray(self.policy.caps_w(seen), dtype=np.float64)
        if cap_w.shape != plan.max_w.shape or not np.isfinite(cap_w).all():
            name = type(self.policy).__name__
            raise PolicyError(f"{name} gave no cap for each of {len(plan.max_w)} racks; it must be finite, in W")
        commands, self._sent = actuate.actuate(
            plan, self._orders(cap_w, requests), self._ledger, shot.now_s, self._sent
        )
        return commands

    def _confirm(self, shot: Snapshot) -> None:
        """Enter the agents' reports: a lease answers the heartbeat heard last."""
        slots = self._plan.agent_slot
        heard = shot.quality[slots["beat"]] != Quality.NEVER
        beat, epoch, seq, cap_w = (
            np.where(heard, shot.value[slots[name]], np.nan) for name in ("beat", "epoch", "seq", "cap_w")
        )
        self._ledger.confirm(beat, epoch, seq, cap_w, shot.time_s[slots["beat"]])

    def _orders(self, cap_w: Floats, requests: Requests) -> Orders:
        plan, racks = self._plan, len(cap_w)
        return Orders(
            cap_w=np.clip(cap_w, plan.floor_w, plan.max_w),
            safe_cap_w=plan.safe_cap_w,
            reason=np.zeros(racks, dtype=np.uint8),
            row=np.full(racks, -1, dtype=np.int64),
            charge_w=plan.max_w,
            unheeded=np.zeros(racks, dtype=np.bool_),
            mode=requests.mode,
        )


def see(plan: Plan, shot: Snapshot, requests: Requests) -> Seen:
    """The readings of a snapshot that policies use most."""
    agent_w, node_w = _good(shot, plan.agent_slot["power_w"]), _good(shot, plan.node_slot.power)
    site_w = plan.site.control.envelope_w
    return Seen(
        now_s=shot.now_s,
        envelope_w=site_w if requests.envelope_w is None else min(site_w, requests.envelope_w),
        rack_w=np.where(np.isfinite(agent_w), agent_w, _good(shot, plan.pdu_slot).sum(axis=1)),
        cap_w=_good(shot, plan.agent_slot["cap_w"]),
        node_w=node_w,
        site_w=float(node_w[plan.feeds].sum()),
        snapshot=shot,
    )


def _good(shot: Snapshot, slots: Ints) -> Floats:
    return np.where((slots >= 0) & (shot.quality[slots] == Quality.GOOD), shot.value[slots], np.nan)
