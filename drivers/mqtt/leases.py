"""Cap leases out, agents' reports in: one message per rack group each way."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from drivers.clock import Clock
from drivers.inventory import AGENT_POINTS, STALE_PERIODS, Inventory
from drivers.lease import NO_GPU, Group, Ints, Lease, LeaseError, Report, decode_report
from drivers.points import PointTable, Quality
from drivers.site.model import Site
from drivers.wires import LinkHealth

Publish = Callable[[str, bytes], bool]


def lease_topic(site: str, group: str) -> str:
    """Where the controller sends a group's leases."""
    return f"headroom/v1/{site}/lease/{group}"


def report_topic(site: str, group: str) -> str:
    """Where a group's agents report."""
    return f"headroom/v1/{site}/report/{group}"


class LeaseLink:
    """The controller's end: `send` leases, `receive` reports into the agents' slab of the table.

    Whatever is retained, malformed, of an unknown group or of other racks is counted and changes nothing.
    """

    def __init__(
        self,
        inventory: Inventory,
        site: Site,
        groups: Mapping[str, Group],
        table: PointTable,
        clock: Clock,
        publish: Publish,
    ) -> None:
        slab = inventory.slab("agent")
        if slab is None:
            raise ValueError("the inventory has no slab for rack agents")
        self.counters: Counter[str] = Counter()
        self._site = site.name
        self._prefix = report_topic(site.name, "")
        self._table, self._clock, self._publish = table, clock, publish
        self._groups = groups
        width = len(AGENT_POINTS)
        self._slots: dict[str, Ints] = {
            name: (slab.start + group.racks[:, None] * width + np.arange(width)).ravel()
            for name, group in groups.items()
        }
        self._gpu_slots = _gpu_slots(inventory, groups)
        self._heard_s = dict.fromkeys(groups, -np.inf)
        self._racks = len(site.racks)

    @property
    def subscription(self) -> str:
        """What to subscribe to."""
        return self._prefix + "#"

    def send(self, leases: Sequence[Lease]) -> int:
        """Queue leases, one message each; the number that the link took."""
        taken = sum(self._publish(lease_topic(self._site, lease.group), lease.encode()) for lease in leases)
        self.counters["leases_sent"] += taken
        self.counters["leases_dropped"] += len(leases) - taken
        return taken

    def receive(self, topic: str, payload: bytes, retained: bool) -> None:
        """Take a message on the subscription."""
        if retained:  # a report of the past says nothing of the present
            self.counters["retained"] += 1
            return
        group = self._groups.get(topic.removeprefix(self._prefix))
        if group is None:
            self.counters["unknown_group"] += 1
            return
        try:
            report = decode_report(payload)
        except LeaseError:
            self.counters["malformed"] += 1
            return
        try:
            group.check(report)
        except LeaseError:
            self.counters["wrong_roster"] += 1
            return
        self._store(group.name, report)

    def _store(self, name: str, report: Report) -> None:
        now_s = self._clock.now_s()
        rungs = np.zeros_like(report.beat) if report.shed is None else report.shed
        columns = (rungs if point == "shed" else getattr(report, point) for point in AGENT_POINTS)
        values = np.stack(tuple(columns), axis=1)
        self._table.put(self._slots[name], values.ravel().astype(np.float64), Quality.GOOD, now_s)
        if report.gpu_w is not None and name in self._gpu_slots:
            gpu_w = report.gpu_w[report.gpu_w != NO_GPU]
            self._table.put(self._gpu_slots[name], gpu_w.astype(np.float64), Quality.GOOD, now_s)
        self._heard_s[name] = now_s
        self.counters["reports"] += 1

    def health(self, up: bool, detail: str) -> LinkHealth:
        """Racks heard lately, and the rate of points while they report once a second."""
        now_s = self._clock.now_s()
        silent = sum(
            len(self._groups[name].racks) for name, heard_s in self._heard_s.items() if now_s - heard_s > STALE_PERIODS
        )
        rate = float((self._racks - silent) * len(AGENT_POINTS))
        return LinkHealth("agents", up, self._racks, silent, rate, detail)


def _gpu_slots(inventory: Inventory, groups: Mapping[str, Group]) -> dict[str, Ints]:
    """Slots of each group's GPU powers, rack by rack; empty where the leaf is the rack."""
    slab = inventory.slab("gpu")
    if slab is None:
        return {}
    gpus = np.array([r.gpus for r in inventory.site.racks])
    slots = slab.start + np.arange(slab.size).reshape(slab.rows, -1)
    there = np.arange(slots.shape[1]) < gpus[:, None]
    return {name: slots[group.racks][there[group.racks]] for name, group in groups.items()}
