"""What MQTT costs the controller at site scale: leases to 3,400 racks and back each second, and the BMS's stream.

The controller's side runs here and its process time alone counts; broker, rack agents and BMS are processes of their
own. A confirmation's latency runs from the moment at which all leases are handed over to the arrival of the report
that shows that lease as the last one taken.
"""

import multiprocessing
import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import uvloop
from numpy.typing import NDArray

from drivers.clock import RealClock
from drivers.inventory import compile_inventory
from drivers.lease import Ledger, compile_groups
from drivers.mqtt.endpoint import Endpoint
from drivers.mqtt.wires import MqttWires
from drivers.profile import load_profiles
from drivers.site.load import resolve_site
from drivers.site.model import Device, Rack, Site
from sim.lab.bench.mqtt_ends import UP, bus_value, publish_bms, serve_agents, with_ten_points
from sim.lab.broker import Broker, BrokerError, Kind

Floats = NDArray[np.float64]
RACKS, AGENTS, BMS_PER_S, CYCLE_S = 3400, 64, 20_200, 1.0
BROKERS: dict[str, Kind] = {"nats-server": "nats", "mosquitto": "mosquitto"}
SETTLE_S = 2.0


def bench_mqtt(
    say: Callable[[str], None],
    racks: int = RACKS,
    seconds: int = 10,
    per_s: int = BMS_PER_S,
    brokers: Mapping[str, Kind] = BROKERS,
) -> dict[str, dict[str, float]]:
    """Figures at each broker that is installed, by its name; shares are of one core, latencies in ms."""
    results: dict[str, dict[str, float]] = {}
    for name, kind in brokers.items():
        say(f"  at {name} ..")
        try:
            with Broker(kind=kind) as broker:
                where = Endpoint("127.0.0.1", broker.port)
                results[name] = _at_broker(where, _site(racks), seconds, per_s)
        except BrokerError as error:
            say(f"  left out: {error}")
    return results


def _site(racks: int) -> Site:
    """Colossus with so many racks, each of them a DSX device, and no other devices."""
    site = resolve_site("colossus")
    rows: list[Rack] = list(site.racks[:racks])
    for i in range(racks - len(rows)):
        rows.append(rows[i].model_copy(update={"id": f"more{i}", "lease_group": f"more{i // 64}"}))
    devices = tuple(
        Device(id=f"d{r.id}", profile="dsx_rack", protocol="dsx", topic=f"{r.hall}/{r.row}/{r.id}", measures=r.id)
        for r in rows
    )
    return site.model_copy(update={"name": "bench", "racks": tuple(rows), "devices": devices, "gateways": ()})


def _at_broker(where: Endpoint, site: Site, seconds: int, per_s: int) -> dict[str, float]:
    """Agents on a connection for each hall, caps alone and then with the stream; then caps to 64 agents."""
    site_json, profiles = site.model_dump_json(), with_ten_points(load_profiles())
    bodies = {"dsx_rack": profiles["dsx_rack"].model_dump(), "dsx_powermeter": profiles["dsx_powermeter"].model_dump()}
    with (
        _process(serve_agents, site_json, where, 0),
        _process(publish_bms, site_json, bodies, where, per_s, seconds) as bms,
    ):
        halls = uvloop.run(_Controller(site, where).run(seconds, bms))
    with _process(serve_agents, site_json, where, AGENTS) as agents:
        assert agents.recv() == UP
        single = uvloop.run(_Controller(site, where).run(seconds, None))
    return {"racks": len(site.racks), **halls, **{f"agents{AGENTS}_{name}": value for name, value in single.items()}}


@contextmanager
def _process(target: Callable[..., None], *args: Any) -> Iterator[Connection]:
    """A process of its own; at the end it is told to stop."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(*args, there), daemon=True)
    process.start()
    try:
        yield here
    finally:
        if process.is_alive():
            here.send("stop")
        process.join(10.0)
        if process.is_alive():
            process.kill()


class _Controller:
    """The controller's end: the wires, the ledger, and a cycle a second without a decision in it."""

    def __init__(self, site: Site, where: Endpoint) -> None:
        self.clock = RealClock()
        racks = site.racks
        self.groups = compile_groups(site.lease_groups, [r.id for r in racks], [r.gpus for r in racks])
        self.inventory = compile_inventory(site, with_ten_points(load_profiles()))
        self.table = self.inventory.table()
        self.wires = MqttWires(self.inventory, site, self.table, self.clock, where)
        self.safe_w = np.array([round(r.safe_cap_w) for r in racks], dtype=np.int64)
        max_w = np.array([r.max_w for r in racks])
        control = site.control
        self.ledger = Ledger(
            max_w,
            self.safe_w,
            epoch=self.clock.wall_ms() // 1000,
            ttl_s=control.lease_ttl_s,
            decay_s=control.lease_decay_s,
            now_s=self.clock.now_s(),
        )
        agent = self.inventory.slab("agent")
        assert agent is not None
        self.slots = {name: agent.slots(name) for name in ("beat", "epoch", "seq", "cap_w")}

    async def run(self, seconds: int, bms: Connection | None) -> dict[str, float]:
        """Caps for `seconds` [s]; then, where there is a BMS, caps and its stream together for as long."""
        await self.wires.start()
        await self._until(lambda: bool(np.isfinite(self.table.value[self.slots["beat"]]).all()))
        if bms is not None:
            bms.send("metadata")
            await self._until(bms.poll)
            assert bms.recv() == UP
        await self.clock.sleep_until(self.clock.now_s() + SETTLE_S)
        await self._cycles(2)
        core, latency_ms = await self._cycles(seconds)
        figures = {"caps_core_share": core, **_latencies("caps", latency_ms)}
        if bms is not None:
            figures |= await self._with_stream(seconds, bms)
        await self.wires.stop()
        return figures

    async def _with_stream(self, seconds: int, bms: Connection) -> dict[str, float]:
        """The figures while the stream runs; the share of the core is that of stream and caps together."""
        before = self.wires.counters.get("bms.values", 0)
        bms.send("go")
        core, latency_ms = await self._cycles(seconds)
        await self._until(bms.poll)
        sent, took_s = bms.recv()
        await self.clock.sleep_until(self.clock.now_s() + 1.0)
        lost = sent - (self.wires.counters["bms.values"] - before)
        return {
            "bms_msgs_per_s": sent / took_s,
            "bms_core_share": core,
            "bms_lost": lost,
            "bms_wrong": self._wrong(sent),
            **_latencies("bms_caps", latency_ms),
        }

    def _wrong(self, sent: int) -> int:
        """Points of the table that do not hold the last value published for them."""
        slab = self.inventory.slab("dsx_rack")
        assert slab is not None
        first = sent - slab.size if sent > slab.size else 0
        expected = np.full(slab.size, np.nan)
        for k in range(first, sent):
            expected[k % slab.size] = bus_value(k)
        kilowatts = np.tile([1e3 if point == "power_w" else 1.0 for point in slab.points], slab.rows)
        got = self.table.value[slab.start : slab.stop]
        heard = np.isfinite(expected)
        return int((~np.isclose(got, expected * kilowatts, rtol=1e-6, atol=1e-6))[heard].sum())

    async def _cycles(self, count: int) -> tuple[float, Floats]:
        """Confirm and send, once a second; share of a core, and the latency of every rack in every cycle [ms]."""
        begin_s, cpu_s = self.clock.now_s(), _cpu_s()
        latencies: list[Floats] = []
        for cycle in range(count):
            beat, epoch, seq, cap_w = (self.table.value[slots] for slots in self.slots.values())
            self.ledger.confirm(beat, epoch, seq, cap_w, self.table.time_s[self.slots["beat"]])
            caps_w = self.safe_w + 100 * (cycle % 2)
            first_seq, sent_s = self.ledger.seq, self.clock.now_s()
            leases = [self.ledger.lease(group, caps_w, self.safe_w, sent_s) for group in self.groups.values()]
            if self.wires.send(leases) != len(leases):
                raise RuntimeError("the link to the broker is down")
            await self.clock.sleep_until(begin_s + (cycle + 1) * CYCLE_S)
            self.table.snapshot(self.clock.now_s())
            confirmed = self.table.value[self.slots["seq"]] > first_seq
            latency_ms = 1e3 * (self.table.time_s[self.slots["seq"]] - sent_s)
            latencies.append(np.where(confirmed, latency_ms, np.inf))
        return (_cpu_s() - cpu_s) / (self.clock.now_s() - begin_s), np.concatenate(latencies)

    async def _until(self, good: Callable[[], bool], limit_s: float = 60.0) -> None:
        end_s = self.clock.now_s() + limit_s
        while not good():
            if self.clock.now_s() > end_s:
                raise RuntimeError(f"not ready after {limit_s:g} s: {self.wires.health()}")
            await self.clock.sleep_until(self.clock.now_s() + 0.05)


def _latencies(name: str, latency_ms: Floats) -> dict[str, float]:
    """Median, 99th percentile, and racks that had not confirmed when their cycle ended (each counts as a cycle)."""
    missed = int(np.isinf(latency_ms).sum())
    within = np.where(np.isinf(latency_ms), 1e3 * CYCLE_S, latency_ms)
    return {
        f"{name}_latency_ms_p50": float(np.percentile(within, 50)),
        f"{name}_latency_ms_p99": float(np.percentile(within, 99)),
        f"{name}_unconfirmed": missed,
    }


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
