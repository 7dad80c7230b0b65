"""A site's two MQTT ends over a real broker, and waiting with a limit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from helpers_programs import free_port, need_program

from drivers.clock import RealClock
from drivers.inventory import Inventory, compile_inventory
from drivers.lease import Holder, Lease, Ledger
from drivers.mqtt.endpoint import Endpoint
from drivers.mqtt.wires import MqttWires
from drivers.points import Floats, PointTable
from drivers.profile import load_profiles
from drivers.site.model import Site
from sim.lab.broker import Broker, Kind, Tls
from sim.serve.mqtt import MqttPlant

PROFILES = load_profiles()
CLOCK = RealClock()
BROKERS: tuple[Kind, ...] = ("nats", "mosquitto")


@contextmanager
def open_broker(
    kind: Kind, username: str | None = None, password: str | None = None, tls: Tls | None = None
) -> Iterator[Broker]:
    """A running broker; skips where its program is missing."""
    if kind == "mosquitto":
        need_program("mosquitto", "mosquitto")
    with Broker(free_port(), kind=kind, username=username, password=password, tls=tls) as broker:
        yield broker


async def pause(seconds: float) -> None:
    """Let time pass."""
    await CLOCK.sleep_until(CLOCK.now_s() + seconds)


async def until(good: Callable[[], bool], limit_s: float = 30.0, step_s: float = 0.02) -> None:
    """Wait until `good`; AssertionError after the limit."""
    end_s = CLOCK.now_s() + limit_s
    while not good():
        assert CLOCK.now_s() < end_s, "waited too long"
        await pause(step_s)


@dataclass
class Ends:
    """Plant with agents, and controller with ledger, of one site."""

    site: Site
    broker: Broker
    where: Endpoint | None = None
    inventory: Inventory = field(init=False)
    table: PointTable = field(init=False)
    latencies_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        site, now_s = self.site, CLOCK.now_s()
        broker = self.broker
        where = self.where or Endpoint("127.0.0.1", broker.port, broker.username, broker.password)
        self.inventory = compile_inventory(site, PROFILES)
        self.table = self.inventory.table()
        self.safe_w = np.array([round(r.safe_cap_w) for r in site.racks], dtype=np.int64)
        self.max_w = np.array([r.max_w for r in site.racks])
        self.holder = Holder(self.safe_w, now_s)
        self.ledger = Ledger(self.max_w, self.safe_w, epoch=1, ttl_s=10.0, decay_s=5.0, now_s=now_s)
        self.plant = MqttPlant(site, PROFILES, CLOCK, self._on_lease, where)
        self.wires = MqttWires(self.inventory, site, self.table, CLOCK, where)
        self.sent_s = now_s

    def _on_lease(self, lease: Lease) -> None:
        now_s = CLOCK.now_s()
        self.latencies_s.append(now_s - self.sent_s)
        self.holder.accept(lease, self.plant.groups[lease.group].racks, now_s)

    async def start(self) -> None:
        await self.plant.start()
        await self.wires.start()
        await until(lambda: self.plant.up and all(self.session_up()))

    def session_up(self) -> list[bool]:
        """Both controller sessions (the BMS may be silent still)."""
        return [self.wires.health()[0].up, not self.wires.health()[1].detail.startswith("[Errno")]

    async def stop(self) -> None:
        await self.wires.stop()
        await self.plant.stop()

    def report(self) -> None:
        """All agents report."""
        self.holder.step(CLOCK.now_s())
        power_w = np.minimum(self.holder.in_force_w, self.max_w)
        self.plant.publish_reports([self.holder.report(g, power_w) for g in self.plant.groups.values()])

    def agents(self, point: str) -> Floats:
        """A column of the agents' slab."""
        slab = self.inventory.slab("agent")
        assert slab is not None
        return self.table.value[slab.slots(point)]

    def confirm(self) -> None:
        """The ledger takes what the table holds."""
        slab = self.inventory.slab("agent")
        assert slab is not None
        time_s = self.table.time_s[slab.slots("beat")]
        columns = (self.agents(name) for name in ("beat", "epoch", "seq", "cap_w"))
        beat, epoch, seq, cap_w = columns
        self.ledger.confirm(beat, epoch, seq, cap_w, time_s)

    def send(self, cap_w: float) -> int:
        """One cap for all racks; the number of messages taken."""
        self.sent_s = CLOCK.now_s()
        caps = np.full(len(self.site.racks), round(cap_w), dtype=np.int64)
        leases = [self.ledger.lease(g, caps, self.safe_w, self.sent_s) for g in self.plant.groups.values()]
        return self.wires.send(leases)

    async def cycle(self, cap_w: float) -> int:
        """Reports, confirmation, leases; waits for each to arrive while there is a link, for 10 s at most."""
        heard, handled, linked = self._reports(), len(self.latencies_s), self.plant.up
        self.report()
        await self._arrived(lambda: not linked or self._reports() >= heard + len(self.plant.groups))
        self.confirm()
        taken = self.send(cap_w)
        await self._arrived(lambda: len(self.latencies_s) >= handled + taken)
        return taken

    def _reports(self) -> int:
        return self.wires.counters.get("agents.reports", 0)

    async def _arrived(self, good: Callable[[], bool]) -> None:
        end_s = CLOCK.now_s() + 10.0
        while not good() and CLOCK.now_s() < end_s:
            await pause(0.01)

    def charge_w(self) -> Floats:
        """What the ledger charges now, without any meter."""
        n = len(self.site.racks)
        return self.ledger.charge_w(CLOCK.now_s(), np.full(n, np.nan), np.zeros(n, dtype=np.bool_))
