"""The plant as one object: a step of physics, leases in, truth and measurements out."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from drivers.inventory import compile_inventory
from drivers.lease import Ints, Lease, Report
from drivers.points import Floats
from drivers.profile import Profile
from drivers.site.model import Site
from sim.plant import electrical, gensets, gpus, jobs, protection, shedding, switches, thermal
from sim.plant.agents import Agents
from sim.plant.arrivals import AZURE_CODE, read_source
from sim.plant.base import DT_S, Bools, PlantError
from sim.plant.devices import Sensors
from sim.plant.director import Director
from sim.plant.events import Scenario
from sim.plant.hydraulics import CHILLER
from sim.plant.network import compile_network
from sim.plant.nvml import Nvml, seen_w
from sim.plant.powered import Powered
from sim.plant.readings import Readings
from sim.plant.requests import Requests
from sim.plant.sags import CHILLER_RESTART_S, DRIVE_RESTART_S, Dropouts
from sim.plant.step import power_step, thermal_step, work_step
from sim.plant.supplies import supply_loss_w
from sim.plant.truth import Truth

WARM_UP_STEPS = 2400
STIR_STEPS = round(jobs.STIR_S / DT_S)
BALANCE = 1e-9  # relative; beyond it the plant stops rather than lie


class Plant:
    """A simulated site. Equal arguments and calls give equal results bit for bit.

    `start_s` [s] is the agents' monotonic time at start; `boot` must rise with each start against a live controller.
    PlantError when the scenario means something that the site does not have.
    """

    def __init__(
        self,
        site: Site,
        profiles: Mapping[str, Profile],
        scenario: Scenario,
        seed: int = 1,
        *,
        start_s: float = 0.0,
        boot: int = 1,
    ) -> None:
        self.site, self.scenario, self.start_s = site, scenario, start_s
        self.inventory = compile_inventory(site, profiles)
        self.network = compile_network(site)
        n = self.network
        root = np.random.default_rng(seed)
        self._rng, job_rng, sensor_rng, gpu_rng, curve_rng, fault_rng, request_rng, genset_rng, nvml_rng = root.spawn(9)
        battery_s = scenario.ups_battery_s
        self.elec = electrical.start_electrical(n.tree, site.control.ups_battery_s if battery_s is None else battery_s)
        self.ties = switches.compile_ties(site)
        self.gensets = gensets.compile_gensets(site, genset_rng)
        self.thermal = thermal.start_thermal(n.racks, n.hydraulics)
        self.jobs = jobs.start_jobs(n.racks, n.gangs, job_rng)
        self.shedding = shedding.start_shedding(n.racks)
        self.agents = Agents(site, start_s, boot=boot, seed=seed)
        self.director = Director(site, scenario, n, self.jobs, self.elec, self.thermal, self.gensets, fault_rng)
        self.requests = self._requests(request_rng)
        self.paths = electrical.start_paths(n.tree, n.racks, n.hydraulics)
        self._caps: Floats = self.agents.step(start_s)
        self._history = np.tile(self._caps, (int(n.racks.delay_steps.max(initial=0)) + 1, 1))
        self.jobs.limit_w[:] = np.minimum(self._caps, n.racks.max_w)
        self._own_caps = site.control.leaf == "gpu"
        self.gpus = gpus.start_gpus(n.racks, self._caps, self.thermal.skew_w, gpu_rng, own_caps=self._own_caps)
        self._cdu = {c.id: i for i, c in enumerate(site.cdus)}
        self._storage = {x.id: i for i, x in enumerate(site.storage)}
        self._mixed = np.zeros(len(site.cdus))
        self._feeds = {x.id: i for i, x in enumerate(site.nodes) if not x.parent}
        self._steps, self._trips = 0, 0
        hyd = n.hydraulics
        self._cdu_drops = Dropouts(hyd.cdu_fed_ptr, hyd.cdu_fed, np.full(len(site.cdus), DRIVE_RESTART_S))
        restart_s = np.where(hyd.unit_kind == CHILLER, CHILLER_RESTART_S, DRIVE_RESTART_S)
        self._unit_drops = Dropouts(hyd.unit_fed_ptr, hyd.unit_fed, restart_s)
        self._restless, self._seen = True, b""
        self._flow = electrical.Flow(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        self._nvml = Nvml(n.racks, nvml_rng)
        self.readings = Readings(site, n, self.elec, self.thermal, sensor_rng)
        worst = self.readings.worst_phase()
        self.protections = protection.compile_protections(site, n.tree.rated_w, worst, curve_rng)
        self.sensors = Sensors(
            self.inventory,
            self.readings,
            self.director.faults,
            self.director.errors,
            Powered(site, self.elec.live),
            sensor_rng,
        )
        self._warm_up()

    @property
    def t_s(self) -> float:
        """Time since start [s]."""
        return self._steps * DT_S

    def step(self, dt_s: float = DT_S) -> None:
        """Advance by `dt_s` [s], a multiple of 0.25; PlantError when energy is not conserved to 1e-9."""
        count = round(dt_s / DT_S)
        if count < 1 or abs(count * DT_S - dt_s) > 1e-9:
            raise ValueError(f"{dt_s} s is not a multiple of the plant's step of {DT_S} s")
        for _ in range(count):
            self._step()

    def _step(self) -> None:
        n, t_s = self.network, self.t_s
        self.director.apply(t_s)
        self._caps = self.agents.step(self.start_s + t_s)
        self._supply()
        self._work(t_s)
        cdu_on, unit_on = self._motors()
        self.thermal.unit_on[:] = unit_on
        dry_c, wet_c = self.director.weather_c(t_s)
        rack_w = self.jobs.power_w
        heat_off = thermal_step(n.racks, n.hydraulics, self.thermal, rack_w, cdu_on, unit_on, self._mixed, dry_c, wet_c)
        self._flow, trips = power_step(
            n.tree, n.hydraulics, n.racks, self.elec, self.paths, self.protections, self.gensets, rack_w, self.thermal
        )
        if not (heat_off <= BALANCE and self._flow.residual <= BALANCE):
            raise PlantError(f"energy at {t_s} s: heat off by {heat_off:.1e}, power by {self._flow.residual:.1e}")
        self._trips += trips
        self._steps += 1
        self.readings.take(self.elec.out_w, rack_w)

    def _motors(self) -> tuple[Bools, Bools]:
        """CDUs and cooling units that have voltage and have not dropped out in a sag."""
        cdu_on, unit_on = self.paths.cdu_on & self.thermal.cdu_ok, self.paths.unit_on
        if self._restless or self._cdu_drops.any_out or self._unit_drops.any_out:
            volt = np.sqrt(self.elec.volt2)
            cdu_on = cdu_on & self._cdu_drops.step(volt, self.elec.live)
            unit_on = unit_on & self._unit_drops.step(volt, self.elec.live)
        return cdu_on, unit_on

    def _supply(self) -> None:
        """Who has voltage; looked at again only when something could have changed it."""
        n, seen = self.network, self.elec.in_service.tobytes() + self.elec.source.tobytes()
        if self._restless or seen != self._seen:
            self._seen = seen
            self._restless = switches.supply(n.tree, self.ties, self.gensets, self.elec)
            electrical.route(n.racks, n.hydraulics, self.elec.live, self.paths)

    def _requests(self, rng: np.random.Generator) -> Requests | None:
        asked = self.scenario.requests
        if asked is None:
            return None
        source = read_source(Path(asked.file)) if asked.file else AZURE_CODE
        self.director.apply(0.0)
        day = self.director.day(0.0)
        return Requests(self.site, self.network, self.jobs, source, asked.late_s, asked.patience_s, day=day, rng=rng)

    def _warm_up(self) -> None:
        """Bring the water to the working point of the first step, as if the plant had run for ten minutes."""
        n, s = self.network, self.jobs
        self.director.apply(0.0)
        jobs.demand(n.racks, n.gangs, s, 1.0, self.gpus.wanted)
        limit_w = np.where(self.director.faults.ignores_caps, n.racks.max_w, s.limit_w)
        power_w = np.minimum(s.plateau_w, limit_w)
        cdu_on, unit_on = np.ones(len(self.site.cdus), dtype=bool), np.ones(len(self.site.cooling), dtype=bool)
        dry_c, wet_c = self.director.weather_c(0.0)
        t = self.thermal
        for _ in range(WARM_UP_STEPS):
            thermal_step(n.racks, n.hydraulics, t, power_w, cdu_on, unit_on, self._mixed, dry_c, wet_c)
        gpus.warm_gpus(n.racks, self.gpus, power_w, t.silicon_c, t.coolant_c)

    def _work(self, t_s: float) -> None:
        n, s, holder = self.network, self.jobs, self.agents.holder
        if self._steps % STIR_STEPS == 0:
            shock, start = self._rng.standard_normal(len(self.site.racks)), self._rng.random(len(n.gang_names))
            jobs.stir(n.racks, n.gangs, s, shock, start)
        if self.requests is not None:
            self.requests.arrive(s, self.director.day(t_s))
        work_step(
            n.racks,
            n.gangs,
            s,
            self.gpus,
            self.shedding,
            self.thermal,
            self._caps,
            self._history,
            holder.gpu_cap_w,
            holder.shed,
            self.director.faults.ignores_caps,
            self.paths.rack_on,
            self._steps,
            self.director.day(t_s),
            t_s,
        )
        if self.requests is not None:
            self.requests.serve(s)

    def accept_lease(self, lease: Lease) -> Ints:
        """Hand a lease to its group's agents now; a Refusal per rack (drivers.lease), empty for no group of ours."""
        return self.agents.accept(lease, self.start_s + self.t_s)

    def accept_leases(self, leases: Sequence[Lease]) -> Ints:
        """The same for leases of different groups at once; their refusals one after the other."""
        return self.agents.accept_all(leases, self.start_s + self.t_s)

    def reports(self, part: int = 0, parts: int = 1) -> Iterator[Report]:
        """What the agents say now, a message per lease group; or only every `parts`-th group from `part` on."""
        return self.agents.reports(self._agents_w(), part, parts, self._gpu_w())

    def write(self, thing: str, point: str, value: float) -> bool:
        """Take a set-point for a CDU (`flow_target_lpm`, `supply_target_c`) or storage (`power_set_w`, + discharge)."""
        cdu, storage = self._cdu.get(thing), self._storage.get(thing)
        if cdu is not None and point == "flow_target_lpm":
            self.thermal.cdu_target_lpm[cdu] = value
        elif cdu is not None and point == "supply_target_c":
            self.thermal.cdu_target_c[cdu] = value
        elif storage is not None and point == "power_set_w":
            self.elec.storage_set_w[storage] = value
        else:
            return False
        return True

    def measure(self) -> Floats:
        """What every device shows now, by point slot; NaN where it shows a sentinel [points]."""
        return self.sensors.measure(self._steps, self.agents.columns(self._agents_w()), self._gpu_w())

    def _agents_w(self) -> Floats:
        """What the agents measure at their racks [R, W]."""
        newest_w, gone_w = self.readings.rack_edges_w()
        return seen_w(self.readings.rack_mean_w(), newest_w, gone_w, self._nvml.rack_s)

    def _gpu_w(self) -> Floats | None:
        """What the agents measure at each GPU [R, most], NaN where a rack has fewer; None with leaf rack."""
        if not self._own_caps:
            return None
        racks = self.network.racks
        edges = (self.readings.rack_mean_w(), *self.readings.rack_edges_w())
        mean_w, newest_w, gone_w = (gpus.gpu_power_w(racks, self.gpus, w, self.thermal.silicon_c) for w in edges)
        power_w = seen_w(mean_w, newest_w, gone_w, self._nvml.gpu_s)
        return gpus.by_rack(racks, np.rint(power_w))

    def gpu_power_w(self) -> Floats:
        """Power of every GPU over the last step [T, W], rack by rack; a rack is its `other_w` and their sum."""
        return gpus.gpu_power_w(self.network.racks, self.gpus, self.jobs.power_w, self.thermal.silicon_c)

    def gpu_c(self) -> Floats:
        """Silicon temperature of every GPU [T, C], rack by rack."""
        return gpus.gpu_c(self.network.racks, self.gpus, self.thermal.silicon_c)

    def truth(self) -> Truth:
        """What really is."""
        s, flow = self.jobs, self._flow
        cooling_w = float(self.thermal.unit_w.sum() + self.thermal.cdu_w.sum())
        hottest = int(np.argmax(self.thermal.loop_return_c))
        load = np.abs(self.elec.out_w) / self.network.tree.trip_w
        worst = int(np.argmax(load))
        e, ids = self.elec, self.site.nodes
        heat = np.where(e.in_service, e.heat, 0.0)
        furthest = int(np.argmax(heat))
        left_s = protection.times_to_trip(self.protections, e.pull_w, e.heat)
        alive = ((self.paths.on_a + self.paths.on_b) > 0.0) & ~s.dead
        handed_out = float(np.minimum(self._caps, s.plateau_w)[alive].sum())
        return Truth(
            t_s=self.t_s,
            site_power_w=flow.site_w,
            it_power_w=float(s.power_w.sum()),
            supply_loss_w=float(supply_loss_w(s.power_w, self.network.racks.max_w).sum()),
            cooling_w=cooling_w,
            losses_w=flow.loss_w,
            load_w=flow.load_w,
            battery_w=flow.battery_w,
            generator_w=flow.generator_w,
            storage_w=float(self.elec.storage_w.sum()),
            demand_w=float(s.demand_w.sum()),
            handed_out_w=handed_out + cooling_w + flow.loss_w + flow.load_w,
            rack_w=s.power_w.copy(),
            plateau_w=s.plateau_w.copy(),
            cap_w=self._caps.copy(),
            node_w=self.elec.out_w.copy(),
            feed_w={name: float(self.elec.out_w[i]) for name, i in self._feeds.items()},
            worst_node=self.site.nodes[worst].id,
            worst_load=float(load[worst]),
            trips=self._trips,
            tripped=tuple(ids[i].id for i in np.flatnonzero(e.tripped & ~e.in_service)),
            trip_state_max=float(heat[furthest]),
            worst_trip_node=ids[furthest].id if heat[furthest] > 0.0 else "",
            least_trip_s=float(left_s[e.in_service].min(initial=np.inf)),
            throttled=int(s.throttled.sum()),
            shut_down=int((self.gpus.lost > 0).sum()),
            gpus_throttled=int(self.gpus.throttled.sum()),
            gpus_shut_down=int(self.gpus.lost.sum()),
            hottest_gpu_c=float((self.thermal.silicon_c + self.gpus.hottest_k).max()),
            shed=int(np.isfinite(self.shedding.hold_w).sum()),
            hottest_loop=self.site.loops[hottest].id,
            hottest_loop_c=float(self.thermal.loop_return_c[hottest]),
            loop_supply_c=self.thermal.loop_supply_c.copy(),
            cdu_supply_c=self.thermal.cdu_supply_c.copy(),
            dry_bulb_c=self.director.weather_c(self.t_s)[0],
            work=float(s.work.sum()),
            undone=float(s.undone.sum()),
            waiting=float(self.requests.queue.waiting().sum()) if self.requests else 0.0,
        )
