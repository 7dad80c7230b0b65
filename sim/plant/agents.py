"""The racks' agents: hold leases, obey them, report. The rules themselves are in drivers/lease."""

from collections.abc import Iterator, Sequence

import numpy as np

from drivers.lease import NO_GPU, Group, Holder, Ints, Lease, LeaseError, Refusal, Report, Shed, compile_groups
from drivers.points import Floats
from drivers.site.model import Site


class Agents:
    """All agents of a site; boot default is each rack's safe cap."""

    def __init__(self, site: Site, now_s: float, *, boot: int, seed: int) -> None:
        safe = np.array([r.safe_cap_w for r in site.racks])
        self.groups: dict[str, Group] = compile_groups(
            site.lease_groups, [r.id for r in site.racks], [r.gpus for r in site.racks]
        )
        most = np.array([r.max_w for r in site.racks])
        boot_w, max_w = np.floor(safe).astype(np.int64), np.floor(most).astype(np.int64)
        rung = Shed[site.control.shed.upper()]
        gpus = max(r.gpus for r in site.racks) if site.control.leaf == "gpu" else 0
        self.holder = Holder(boot_w, now_s, max_w=max_w, boot=boot, seed=seed, last_rung=rung, gpus=gpus)
        self.refused = 0  # rack leases not taken, all time
        self.garbled = 0  # messages that meant no group of ours

    def accept(self, lease: Lease, now_s: float) -> Ints:
        """Offer a lease to its group; a Refusal per rack of the message, empty when it meant no group of ours."""
        return self.accept_all((lease,), now_s)

    def accept_all(self, leases: Sequence[Lease], now_s: float) -> Ints:
        """Offer leases of different groups at once; what `accept` says of each, one after the other."""
        ours = [lease for lease in leases if self._means_us(lease)]
        self.garbled += len(leases) - len(ours)
        if not ours:
            return np.empty(0, dtype=np.int64)
        refusal = self.holder.accept_all(ours, [self.groups[lease.group].racks for lease in ours], now_s)
        self.refused += int(np.count_nonzero(refusal != int(Refusal.ACCEPTED)))
        return refusal

    def _means_us(self, lease: Lease) -> bool:
        group = self.groups.get(lease.group)
        try:
            if group is None:
                raise LeaseError(f"no group {lease.group}")
            group.check(lease)
        except LeaseError:
            return False
        return True

    def step(self, now_s: float) -> Floats:
        """Caps in force [R] at `now_s` [s]."""
        return self.holder.step(now_s)

    def reports(self, power_w: Floats, part: int, parts: int, gpu_w: Floats | None = None) -> Iterator[Report]:
        """A report of every `parts`-th group from `part` on, with each agent's own measurements [R], [R, GPUs]."""
        per_gpu = None if gpu_w is None else np.where(np.isnan(gpu_w), NO_GPU, gpu_w).astype(np.int64)
        for group in tuple(self.groups.values())[part::parts]:
            yield self.holder.report(group, power_w, per_gpu)

    def columns(self, power_w: Floats) -> Floats:
        """The agents' slab [R, len(AGENT_POINTS)] as its reports would fill it."""
        h = self.holder
        columns = [np.rint(power_w), np.ceil(h.in_force_w), h.epoch, h.seq, h.beat, h.shed]
        return np.column_stack(columns).astype(np.float64)
