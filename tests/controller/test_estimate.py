"""What the image says about the building: other load, demand behind caps, who is silent, who does not obey."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from helpers_control import Bench, Wiring, bench
from helpers_site import tiny_site

from controller import cycle, estimate, image
from controller.frames import Estimate, Floats, Image, Requests
from drivers.lease import Ledger
from drivers.points import Quality


@pytest.fixture(scope="module")
def b() -> Bench:
    return bench(Wiring(envelope_w=400e3))


@dataclass
class Follow:
    """An estimate followed second by second."""

    bench: Bench
    now_s: float = 1000.0

    def __post_init__(self) -> None:
        self.state = estimate.begin(self.bench.plan, self.now_s)

    def see(self, seen: Image) -> Estimate:
        """The next second."""
        self.now_s += 1.0
        known, self.state = estimate.estimate(self.bench.plan, replace(seen, now_s=self.now_s), self.state)
        return known

    def run(self, seconds: int, what: Image | Callable[[int], Image]) -> Estimate:
        """Several seconds of one image, or of `what(second)`; the last estimate."""
        for t in range(seconds):
            known = self.see(what(t) if callable(what) else what)
        return known


def caps(b: Bench, watts: float) -> Floats:
    return np.full(b.racks, watts)


def steady(b: Bench, power_w: float, cap_w: float, other_w: float = 0.0) -> Image:
    return b.image(b.values(caps(b, power_w), caps(b, cap_w), {"u0": other_w}))


def test_other_load_is_learnt_and_stays_put_under_swings(b: Bench) -> None:
    """A gang swings by a third every other second, its PDUs a reading apart from the meters above."""
    swing = [b.values(caps(b, p), caps(b, 80e3), {"u0": 12e3}) for p in (70e3, 45e3)]

    def mixed(t: int) -> Image:
        value = swing[t // 2 % 2].copy()
        late = swing[(t - 1) // 2 % 2]
        for rack in b.site.racks:
            for pdu in (rack.pdu_a, rack.pdu_b):
                value[b.slots[pdu, "power_w"]] = late[b.slots[pdu, "power_w"]]
        return b.image(value)

    watch, at = Follow(b), b.plan.row_name.index("u0")
    watch.run(60, mixed)
    seen = [watch.see(mixed(t)).other_w[at] for t in range(60, 80)]
    assert np.mean(seen) == pytest.approx(12e3, rel=0.15)
    assert np.ptp(seen) < 0.06 * 50e3  # of the swing at this node
    learnt = Follow(b).run(60, steady(b, 60e3, 80e3, 12e3))
    assert learnt.other_w[at] == pytest.approx(12e3, rel=1e-6)


def test_the_envelope_does_not_count_marginal_cooling_twice(b: Bench) -> None:
    """Cooling in proportion to heat is in the row's coefficients: rack load + other load is what the meters show."""
    heat_w = 60e3 * b.racks
    cooling = {"feed0": b.plan.cooling_w_per_w * heat_w}
    known = Follow(b).run(120, b.image(b.values(caps(b, 60e3), caps(b, 80e3), cooling)))
    row, meter_w = b.plan.envelope_row, b.node_w(caps(b, 60e3), cooling)["feed0"]
    assert b.plan.rows.dot(caps(b, 60e3))[row] + known.other_w[row] == pytest.approx(meter_w, rel=1e-4)
    assert known.load_w[row] == pytest.approx(meter_w, rel=1e-6)


def test_a_row_carries_the_larger_of_its_meter_and_its_racks(b: Bench) -> None:
    value = b.values(caps(b, 60e3), caps(b, 80e3))
    value[b.slots["u0", "power_w"]] = 1e3
    at = b.plan.row_name.index("u0")
    assert Follow(b).see(b.image(value)).load_w[at] == pytest.approx(b.plan.rows.dot(caps(b, 60e3))[at])
    value[b.slots["u0", "power_w"]] = 300e3
    assert Follow(b).see(b.image(value)).load_w[at] == pytest.approx(300e3)


def test_a_censored_demand_is_probed_upward_and_comes_back(b: Bench) -> None:
    """At 96 % of the cap the rack may want more: its demand climbs; when it shows to want less, it is forgotten."""
    watch = Follow(b)
    watch.run(130, steady(b, 50e3, 80e3))
    assert watch.see(steady(b, 50e3, 80e3)).demand_w == pytest.approx(caps(b, 50e3 * estimate.SPARE))
    climb = [watch.see(steady(b, 48.5e3, 50.5e3)).demand_w[0] for _ in range(16)]
    assert (np.diff(climb) >= 0).all()
    assert climb[-1] == pytest.approx(b.plan.max_w[0])
    watch.run(int(estimate.DEMAND_WINDOW_S) + 15, steady(b, 45e3, 80e3))
    assert watch.see(steady(b, 45e3, 80e3)).demand_w == pytest.approx(caps(b, 45e3 * estimate.SPARE))


def test_a_pause_between_plateaus_is_no_loss_of_demand(b: Bench) -> None:
    watch = Follow(b)
    watch.run(80, steady(b, 70e3, 80e3))
    for _ in range(40):
        assert watch.see(steady(b, 20e3, 80e3)).demand_w[0] >= 70e3


def test_blind_racks_keep_what_they_have(b: Bench) -> None:
    """PDUs silent, agents silent, or both: nobody's wish falls below the cap in force for want of data."""
    points = {"pdu": [(f"p{i}{c}", "power_w") for i in range(4) for c in "ab"],
              "agent": [(f"r{i}", "power_w") for i in range(4)]}  # fmt: skip
    for bad in (points["pdu"], points["agent"], points["pdu"] + points["agent"]):
        watch = Follow(b)
        watch.run(80, steady(b, 60e3, 70e3))
        value = b.values(caps(b, 60e3), caps(b, 70e3))
        known = watch.run(90, b.image(value, bad=bad))
        assert (known.demand_w >= 60e3).all()
    assert known.demand_w == pytest.approx(caps(b, 70e3))
    assert not known.rack_known.any()


def test_a_silent_agent_is_a_constant_at_its_charge(b: Bench) -> None:
    value = b.values(caps(b, 60e3), caps(b, 70e3))
    charge_w = np.array([70e3, 77e3, 70e3, 70e3])
    known = Follow(b).see(b.image(value, bad=[("r1", "cap_w"), ("r1", "power_w")], charge_w=charge_w))
    assert known.constant_w[1] == 77e3
    assert np.isnan(np.delete(known.constant_w, 1)).all()


@pytest.mark.parametrize("reaction_s", [1.1, 8.0, 40.0])
def test_a_disobedient_rack_is_found_in_time_and_one_that_reacts_in_time_is_not(reaction_s: float) -> None:
    b = bench(Wiring(reaction_s=reaction_s))
    power, cap = np.array([70e3, 50e3, 50e3, 70e3]), np.array([50e3, 50e3, 50e3, 80e3])
    watch, found_s = Follow(b), np.inf
    for t in range(int(reaction_s) + 10):
        power[3] = 70e3 if t < reaction_s else 49e3  # lowered at t = 0, obeys at its actuator's pace
        now_cap = np.append(cap[:3], 50e3)
        known = watch.see(b.image(b.values(power, now_cap)))
        if known.disobedient[0]:
            found_s = min(found_s, t + 1.0)
        assert not known.disobedient[1:].any()
    assert found_s <= reaction_s + 5.0
    assert known.constant_w[0] == 70e3
    obeys = watch.see(b.image(b.values(caps(b, 50e3), now_cap)))
    assert not obeys.disobedient.any()


def test_metering_error_is_no_disobedience(b: Bench) -> None:
    known = Follow(b).run(30, steady(b, 51e3, 50e3))
    assert not known.disobedient.any()


def test_pumps_inside_a_rack_are_not_its_gpus() -> None:
    """The CDU on a rack's own PDUs draws through them; no cap reaches it and no rack is blamed for it."""
    b = bench(site=tiny_site())
    value = b.values(caps(b, 60e3) + 400.0, caps(b, 60e3))
    for i in range(1, 5):
        value[b.slots[f"c{i}", "power_w"]] = 400.0
    table = b.inventory.table()
    table.put(np.arange(b.inventory.size), value, Quality.GOOD, 1000.0)
    ledger = Ledger(b.plan.max_w, b.plan.safe_cap_w.astype(np.int64), epoch=1, ttl_s=10, decay_s=5, now_s=1000.0)
    seen, _ = image.take(b.plan, table.snapshot(1000.1), 0, ledger, image.begin(b.plan, 1000.0))
    assert seen.metered_w == pytest.approx(caps(b, 60e3))


def test_a_restart_begins_from_the_caps_found() -> None:
    """Odd caps in force, racks drawing what they may: the first cycles order just those."""
    b = bench(Wiring(envelope_w=400e3))
    found = np.array([45e3, 52e3, 61e3, 78e3])
    state, table = cycle.begin(b.plan, 3, 1000.0), b.inventory.table()
    for second in range(5):
        now_s = 1000.5 + second
        table.put(np.arange(b.inventory.size), b.values(0.97 * found, found), Quality.GOOD, now_s - 0.2)
        frames, commands = cycle.step(b.plan, table.snapshot(now_s), Requests(), state)
        assert frames.orders.cap_w == pytest.approx(found)
        assert (frames.estimate.demand_w >= found).all()
        assert second or len(commands) == 2


def test_no_reading_at_all_is_an_estimate_too(b: Bench) -> None:
    state = cycle.begin(b.plan, 1, 1000.0)
    frames, _ = cycle.step(b.plan, b.inventory.table().snapshot(1000.0), Requests(), state)
    assert not frames.estimate.covered
    assert np.isnan(frames.estimate.rack_power_w).all()
    assert np.isfinite(frames.estimate.load_w).all()
    assert frames.orders.cap_w == pytest.approx(b.plan.safe_cap_w)
