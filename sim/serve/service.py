"""The plant as a process: physics in real time behind real sockets, with the truth on standard output.

Nothing that listens or calls can stop the clock: an absent broker, client or reader costs its own messages only.
"""

import asyncio
import contextlib
import json
import math
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers.clock import Clock, RealClock
from drivers.lease import Lease
from drivers.profile import Profile, load_profiles
from drivers.site.model import Device, Site
from drivers.supervise import Outlet, own_text
from sim.plant.base import DT_S
from sim.plant.devices import Panel
from sim.plant.events import Scenario
from sim.plant.plant import Plant
from sim.plant.truth import Truth
from sim.serve.control import Control
from sim.serve.modbus import ModbusPlant
from sim.serve.mqtt import MqttPlant

STEPS_PER_S = round(1.0 / DT_S)
CATCH_UP_STEPS = 8  # at a stretch; then the sockets get a turn
GIVE_UP_S = 5.0  # later than this, the plant lets the lost time go and says so


@dataclass(frozen=True)
class Second:
    """One second of a running plant: the truth at its end, peak and mean of the site's power within it [W]."""

    truth: Truth
    peak_w: float
    mean_w: float
    late_s: float
    skipped_s: float  # time let go since the start


class PlantService:
    """A plant and its servers. `tell` hears of each second; PortTakenError from `run` when a port is in use."""

    def __init__(
        self,
        site: Site,
        scenario: Scenario,
        *,
        seed: int = 1,
        speed: float = 1.0,
        tell: Callable[[Second], None] = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        profiles: dict[str, Profile] = load_profiles()
        self.clock: Clock = clock or RealClock()
        self.plant = Plant(site, profiles, scenario, seed, boot=self.clock.wall_ms() // 1000)
        self.plant.step()  # everything compiled and one truth there before anybody may ask
        self.modbus = ModbusPlant(site, profiles, clock=self.clock, on_write=self._written)
        self.mqtt = MqttPlant(site, profiles, self.clock, self._leased, on_request=self._asked)
        self.stop = asyncio.Event()
        self._speed, self._tell = speed, tell
        self._powers: list[float] = []
        self._skipped_s = 0.0
        self._storage_w: dict[str, float] = {}
        self._storage_on: dict[str, bool] = {}
        self._hidden: set[tuple[str, bool]] = set()
        self._bms: dict[str, Panel] = {
            name: self.plant.sensors.panel(group.ids, group.names) for name, group in self.mqtt.bms.groups.items()
        }
        sparkplug = self.mqtt.sparkplug
        self._sparkplug: dict[str, Panel] = {
            name: self.plant.sensors.panel([d.measures for d in devices], sparkplug.names(name))
            for name, devices in sparkplug.devices.items()
        }

    async def run(self) -> None:
        """Serve until `stop` is set."""
        self._show_targets()
        self._publish_registers()
        await self.modbus.start()
        try:
            await self.mqtt.start()
            await self._loop()
        finally:
            await self.mqtt.stop()
            await self.modbus.stop()

    async def _loop(self) -> None:
        begin_s, done = self.clock.now_s(), 0
        while not self.stop.is_set():
            now_s = self.clock.now_s()
            behind_s = now_s - begin_s - done * DT_S / self._speed
            if behind_s > GIVE_UP_S:
                begin_s, self._skipped_s = begin_s + behind_s, self._skipped_s + behind_s
                behind_s = 0.0
            due = min(CATCH_UP_STEPS, int(behind_s * self._speed / DT_S) + 1) if behind_s >= 0.0 else 0
            for _ in range(due):
                self._step(behind_s)
                done += 1
            next_s = begin_s + done * DT_S / self._speed
            await self.clock.sleep_until(min(next_s, self.clock.now_s() + 0.25))

    def _step(self, late_s: float) -> None:
        plant = self.plant
        plant.step()
        truth = plant.truth()
        self._powers.append(truth.site_power_w)
        self._publish_registers()
        quarter = round(plant.t_s / DT_S) % STEPS_PER_S
        self.mqtt.publish_reports(list(plant.reports(quarter, STEPS_PER_S)))
        if quarter == 0:
            self.mqtt.update_bms({name: plant.sensors.show(panel) for name, panel in self._bms.items()})
            self.mqtt.sparkplug.update({name: self.plant.sensors.show(p) for name, p in self._sparkplug.items()})
            mean_w = sum(self._powers) / len(self._powers)
            self._tell(Second(truth, max(self._powers), mean_w, late_s, self._skipped_s))
            self._powers.clear()

    def _publish_registers(self) -> None:
        flat = self.plant.measure()
        for slab in self.plant.inventory.slabs:
            if slab.name in self.modbus.slabs:
                self.modbus.update(slab.name, slab.view(flat))
        self._hide_silent()

    def _hide_silent(self) -> None:
        """Hand devices and gateways that do not answer to the servers, when they change; the BMS always speaks."""
        site = self.plant.site
        devices, gateways = self.plant.sensors.mute()
        now = {(site.devices[i].id, False) for i in devices.nonzero()[0] if site.devices[i].protocol == "modbus_tcp"}
        now |= {(site.gateways[i].id, True) for i in gateways.nonzero()[0]}
        for name, is_gateway in now - self._hidden:
            self.modbus.faults.set_gateway(name, "silent") if is_gateway else self.modbus.faults.set(name, "silent")
        for name, is_gateway in self._hidden - now:
            self.modbus.faults.clear_gateway(name) if is_gateway else self.modbus.faults.clear(name)
        self._hidden = now
        self.mqtt.sparkplug.hide({site.devices[i].id for i in devices.nonzero()[0]})

    def _show_targets(self) -> None:
        """Set-points that a client can read back before it writes them."""
        thermal = self.plant.thermal
        for name, slab in self.modbus.slabs.items():
            if {"flow_target_lpm", "supply_target_c"} <= {p.name for p in slab.codec.profile.points}:
                _, cdus = self.plant.readings.locate([d.measures for d in slab.devices])
                self.modbus.put(name, "flow_target_lpm", thermal.cdu_target_lpm[cdus])
                self.modbus.put(name, "supply_target_c", thermal.cdu_target_c[cdus])

    def _leased(self, lease: Lease) -> None:
        self.plant.accept_lease(lease)

    def _asked(self, cdu: str, supply_c: float) -> None:
        self.plant.write(cdu, "supply_target_c", supply_c)

    def _written(self, device: Device, point: str, value: float) -> None:
        """A client wrote a set-point; storage acts on its power only while it is enabled (SunSpec 704)."""
        thing = device.measures
        self.plant.sensors.written(device.id, point, value)
        if point == "power_set_enable":
            self._storage_on[thing] = value != 0.0
        elif point == "power_set_w":
            self._storage_w[thing] = value
        else:
            self.plant.write(thing, point, value)
            return
        self.plant.write(thing, "power_set_w", self._storage_w.get(thing, 0.0) * self._storage_on.get(thing, False))


def truth_line(second: Second) -> str:
    """The second as one JSON object: sums and worst cases, no arrays."""
    t = second.truth
    body = {name: value for name, value in vars(t).items() if isinstance(value, (int, float, str, dict))}
    body["plateau_w"] = float(t.plateau_w.sum())
    body["cap_w"] = float(t.cap_w.sum())
    body |= {"site_peak_w": second.peak_w, "site_mean_w": second.mean_w}
    body |= {"late_s": second.late_s, "skipped_s": second.skipped_s}
    rounded: dict[str, Any] = {k: round(v, 3) if isinstance(v, float) else v for k, v in body.items()}
    rounded["feed_w"] = {k: round(v, 3) for k, v in t.feed_w.items()}
    rounded["least_trip_s"] = rounded["least_trip_s"] if math.isfinite(t.least_trip_s) else None  # JSON has no Infinity
    return json.dumps(rounded, separators=(",", ":"), allow_nan=False)


def human_line(second: Second) -> str:
    """The second in one short line."""
    t = second.truth
    line = (
        f"{t.t_s:7.0f} s  site {t.site_power_w / 1e6:7.2f} MW (peak {second.peak_w / 1e6:.2f})"
        f"  racks {t.it_power_w / 1e6:7.2f}  want {t.plateau_w.sum() / 1e6:7.2f}  cooling {t.cooling_w / 1e6:5.2f}"
        f"  {t.hottest_loop} {t.hottest_loop_c:.1f} C  trips {t.trips}  throttled {t.throttled}"
    )
    if second.late_s > 1.0 or second.skipped_s > 0.0:
        line += f"  late {second.late_s:.1f} s, let go {second.skipped_s:.1f} s"
    return line


async def serve(
    site: Site, scenario: Scenario, *, seed: int, speed: float, as_json: bool, control: Path | None = None
) -> None:
    """Run a plant until SIGINT or SIGTERM; a reader of standard output that is slow or gone ends nothing.

    `control` is the path of a socket on which scenarios can be started.
    """
    line = truth_line if as_json else human_line
    outlet: Outlet[Second] = Outlet(_printing(line))
    service = PlantService(site, scenario, seed=seed, speed=speed, tell=outlet.put)
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sign, service.stop.set)
    line_in = Control(control, service.plant) if control else None
    try:
        if line_in is not None:
            await line_in.start()
        await service.run()
    finally:
        if line_in is not None:
            await line_in.stop()
        outlet.close()


def _printing(
    line: Callable[[Second], str],
) -> Callable[[], contextlib.AbstractContextManager[Callable[[Second], None]]]:
    @contextlib.contextmanager
    def opening() -> Iterator[Callable[[Second], None]]:
        with contextlib.suppress(OSError), own_text(sys.stdout) as file:
            yield lambda second: print(line(second), file=file, flush=True)

    return opening
