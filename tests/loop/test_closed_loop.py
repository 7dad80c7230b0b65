"""Plant and controller in lock-step: what an operator bets on, second by second."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from controller import feed
from controller.frames import Mode, Reason
from drivers.points import Quality, Snapshot
from drivers.site.load import resolve_site
from drivers.site.model import Site
from sim.lab.lockstep import LockStep
from sim.plant.truth import Truth
from sim.scenarios import load_scenario


@pytest.fixture(scope="module")
def hall() -> Site:
    return resolve_site("hall")


def loop(site: Site, scenario: str, seed: int = 1, mode: Mode = Mode.LIVE) -> LockStep:
    return LockStep(site, load_scenario(scenario), seed, mode)


def run(lock: LockStep, cycles: int) -> list[Truth]:
    return [lock.cycle()[1] for _ in range(cycles)]


def test_nameplate_demand_stays_inside_the_envelope_and_uses_it(hall: Site) -> None:
    lock = loop(hall, "nameplate")
    handed = []
    for _ in range(240):
        frames, truth = lock.cycle()
        shown = feed.frame(lock.plan, frames, [], {})
        assert truth.site_power_w <= frames.limits.envelope_w
        assert shown["racks_capped_without_reason"] == 0
        if shown["envelope_binds"]:
            handed.append(truth.handed_out_w / frames.limits.envelope_w)
    assert len(handed) > 100
    assert np.mean(handed) >= 0.985
    assert lock.plant.truth().trips == 0


@pytest.mark.parametrize("scenario", ["nameplate", "surge", "transformer_out"])
def test_death_of_the_controller_never_raises_a_cap_and_keeps_every_limit(hall: Site, scenario: str) -> None:
    lock = loop(hall, scenario)
    run(lock, 200)
    before = lock.plant.truth()  # with the leases of the last cycle
    ttl, decay = hall.control.lease_ttl_s, hall.control.lease_decay_s
    gone = lock.alone(round(ttl + decay) + 40)
    caps = np.stack([before.cap_w, *(t.cap_w for t in gone)])
    assert (np.diff(caps, axis=0) <= 0.0).all()
    settled = gone[int(ttl + decay) :]
    assert max(t.site_power_w for t in settled) <= hall.control.envelope_w
    rating = lock.state.estimate.rating_w
    assert all((t.node_w <= rating * 1.001).all() for t in settled)
    assert (settled[-1].cap_w <= np.maximum(lock.plan.safe_cap_w, lock.plan.floor_w) + 1.0).all()


def test_death_during_a_curtailment_stays_inside_the_curtailed_envelope(hall: Site) -> None:
    lock = loop(hall, "nameplate")
    run(lock, 150)
    asked_w = hall.control.envelope_w * 2.0 / 3.0
    lock.requests = replace(lock.requests, envelope_w=asked_w, envelope_by="test")
    run(lock, 240)
    assert lock.plant.truth().site_power_w <= asked_w
    assert max(t.site_power_w for t in lock.alone(120)) <= asked_w


def test_a_curtailment_goes_down_within_the_ramp(hall: Site) -> None:
    lock = loop(hall, "nameplate")
    run(lock, 150)
    start_w = lock.state.limits.envelope_w
    asked_w = hall.control.envelope_w * 0.8
    lock.requests = replace(lock.requests, envelope_w=asked_w)
    seen = []
    for _ in range(10):
        frames, _ = lock.cycle()
        seen.append(frames.limits.envelope_w)
    assert seen[0] <= start_w
    assert (np.diff(seen) >= -hall.control.ramp_down_w_per_s * 1.0001).all()


def test_a_restart_takes_over_without_a_bump_or_shedding(hall: Site) -> None:
    lock = loop(hall, "nameplate")
    run(lock, 200)
    for pause_s in (0, 3):
        lock.alone(pause_s)
        found_w = lock.plant.truth().cap_w
        lock.start_controller()
        frames, _ = lock.cycle()
        moved = np.abs(frames.orders.cap_w - found_w) / found_w
        assert moved.max() <= 0.02
        run(lock, 10)
        assert lock.plant.truth().cap_w.sum() >= 0.98 * found_w.sum()


def test_frozen_pdus_are_doubted_and_believed_again(hall: Site) -> None:
    lock = loop(hall, "pdu_freeze")
    doubted = 0
    for _ in range(200):
        frames, truth = lock.cycle()
        assert truth.site_power_w <= frames.limits.envelope_w
        doubted = max(doubted, int((frames.image.quality[lock.plan.pdu_slot] >= Quality.SUSPECT).sum()))
    assert doubted > 0
    assert frames.estimate.rack_known.all()


def test_nothing_rises_where_pdu_and_agent_are_stale_while_the_others_do(hall: Site) -> None:
    lock = loop(hall, "nameplate")
    run(lock, 20)
    blind = np.arange(len(hall.racks)) < 10
    slots = np.append(lock.plan.pdu_slot[blind].ravel(), lock.plan.agent_slot["power_w"][blind])
    clear = lock.wires.lens

    def stale(shot: Snapshot) -> Snapshot:
        codes = shot.quality.copy()
        codes[slots] = Quality.STALE
        return replace(shot, quality=codes)

    lock.wires.lens = stale
    caps_w = np.stack([lock.cycle()[0].orders.cap_w for _ in range(40)])
    assert (np.diff(caps_w[:, blind], axis=0) <= 1e-6).all()
    assert caps_w[-1, ~blind].sum() > caps_w[0, ~blind].sum() + 20 * hall.control.ramp_up_w_per_s
    lock.wires.lens = clear
    later_w = [lock.cycle()[0].orders.cap_w for _ in range(30)][-1]
    assert later_w[blind].sum() > caps_w[-1, blind].sum()


def test_without_the_broker_caps_expire_to_safe_and_the_cycle_goes_on(hall: Site) -> None:
    lock = loop(hall, "nameplate")
    run(lock, 150)
    lock.wires.reports = False
    gone = run(lock, 130)
    assert (gone[-1].cap_w <= lock.plan.safe_cap_w + 1.0).all()
    assert all((b.cap_w <= a.cap_w).all() for a, b in pairwise(gone))
    lock.wires.reports = True
    back = run(lock, 60)
    assert back[-1].cap_w.sum() > gone[-1].cap_w.sum()
    assert max(t.site_power_w for t in gone + back) <= hall.control.envelope_w


def test_shadow_writes_nothing_and_hold_never_raises(hall: Site) -> None:
    shadow = loop(hall, "nameplate", mode=Mode.SHADOW)
    boot_w = shadow.plant.truth().cap_w
    run(shadow, 30)
    assert (shadow.plant.truth().cap_w == boot_w).all()
    assert shadow.state.ledger.seq == 0
    hold = loop(hall, "nameplate")
    run(hold, 30)
    hold.requests = replace(hold.requests, mode=Mode.HOLD)
    at_hold = run(hold, 1)[-1].cap_w
    for truth in run(hold, 30):
        assert (truth.cap_w <= at_hold + 1.0).all()
        at_hold = np.minimum(at_hold, truth.cap_w)


def test_off_is_a_ramp_to_the_safe_caps(hall: Site) -> None:
    lock = loop(hall, "nameplate")
    run(lock, 150)
    lock.requests = replace(lock.requests, mode=Mode.OFF)
    total = [t.cap_w.sum() for t in run(lock, 120)]
    assert (np.diff(total) <= 1.0).all()
    assert np.diff(total).min() >= -1.05 * hall.control.ramp_down_w_per_s - len(hall.racks)
    assert (lock.plant.truth().cap_w <= lock.state.allocate.safe_cap_w + 1.0).all()


def test_equal_inputs_give_equal_answers_bit_for_bit(hall: Site) -> None:
    def caps() -> bytes:
        lock = loop(hall, "surge", seed=7)
        return b"".join(lock.cycle()[0].orders.cap_w.tobytes() for _ in range(60))

    assert caps() == caps()


def test_a_restart_in_a_curtailment_stays_curtailed(hall: Site) -> None:
    lock = loop(hall, "nameplate")
    run(lock, 150)
    asked_w = hall.control.envelope_w * 0.8
    lock.requests = replace(lock.requests, envelope_w=asked_w)
    run(lock, 150)
    lock.start_controller()
    assert max(t.site_power_w for t in run(lock, 60)) <= asked_w
    assert lock.state.limits.envelope_w == asked_w


def test_loss_of_a_transformer_loads_the_other_cords_within_their_ratings(hall: Site) -> None:
    lock = loop(hall, "transformer_out")
    riding, worst, before_w = [], [], lock.plan.max_w
    for _ in range(300):
        frames, truth = lock.cycle()
        riding.append(bool(frames.image.riding.any()))
        worst.append(truth.worst_load)
        if riding[-1]:
            assert (frames.orders.cap_w <= before_w + 1.0).all()
        before_w = frames.orders.cap_w
    assert 50 < sum(riding) < 70  # the battery's time
    moved = riding.index(True) + sum(riding)
    assert max(worst[moved + 10 :]) <= 1.0
    assert lock.plant.truth().trips == 0


@pytest.mark.parametrize("how", ["broker lost", "controller stopped", "agents restarted"])
def test_after_a_silence_caps_rise_from_where_they_fell_to_within_the_ramp(hall: Site, how: str) -> None:
    lock = loop(hall, "nameplate")
    run(lock, 150)
    if how == "broker lost":
        lock.wires.reports = False
        run(lock, 30)
        lock.wires.reports = True
    elif how == "controller stopped":
        lock.alone(30)
    else:
        racks = np.arange(len(hall.racks))
        lock.plant.agents.holder.restart(racks, lock.clock.now_s(), boot=2)
    fallen = run(lock, 1)[0].cap_w.sum()
    total = [fallen, *(t.cap_w.sum() for t in run(lock, 60))]
    assert total[-1] > fallen + 10 * hall.control.ramp_up_w_per_s
    assert np.diff(total).max() <= 2.0 * hall.control.ramp_up_w_per_s + len(hall.racks)


def test_frozen_utility_meters_are_found_and_the_envelope_holds(hall: Site) -> None:
    lock = loop(hall, "nameplate")
    lock.requests = replace(lock.requests, envelope_w=5.0e6)
    run(lock, 15)
    feeds = {n.id for n in hall.nodes if not n.parent}
    for i, device in enumerate(hall.devices):
        lock.plant.director.faults.frozen[i] = device.measures in feeds
    said = []
    for _ in range(180):
        frames, truth = lock.cycle()
        assert truth.site_power_w <= 5.0e6
        said.append(frames.image.quality[lock.plan.node_slot.power[lock.plan.feeds]].max())
    assert Quality.SUSPECT in said


def test_nothing_rises_on_a_cdu_that_fell_silent_after_it_had_narrowed(hall: Site) -> None:
    lock = loop(hall, "nameplate")
    run(lock, 150)
    cdu = next(i for i, d in enumerate(hall.devices) if d.profile == "delta_rpu_orv3")
    rack = next(i for i, r in enumerate(hall.racks) if r.cdu == hall.devices[cdu].measures)
    slot = lock.plan.cdu_flow_slot[lock.plan.cdu_of[rack]]
    clear = lock.wires.lens

    def low_flow(shot: Snapshot) -> Snapshot:
        value = shot.value.copy()
        value[slot] *= 0.3
        return replace(shot, value=value)

    lock.wires.lens = low_flow
    low_w = [lock.cycle()[0].orders.cap_w[rack] for _ in range(10)][-1]
    lock.wires.lens = clear
    lock.plant.director.faults.sentinel[cdu] = True
    assert low_w < hall.racks[rack].max_w * 0.7
    assert all(lock.cycle()[0].orders.cap_w[rack] <= low_w + 1.0 for _ in range(20))
    lock.plant.director.faults.sentinel[cdu] = False
    assert [lock.cycle()[0].orders.cap_w[rack] for _ in range(30)][-1] > low_w


def test_leaving_still_obeys_a_limit_that_narrows(hall: Site) -> None:
    lock = loop(hall, "nameplate")
    run(lock, 150)
    lock.requests = replace(lock.requests, mode=Mode.OFF)
    run(lock, 2)
    loop_row = lock.plan.loop_row.start
    for i, unit in enumerate(u for u in hall.cooling if u.kind == "pump"):
        if unit.loop == hall.loops[0].id and i < 2:
            lock.plant.thermal.unit_ok[hall.cooling.index(unit)] = False
    for _ in range(5):
        frames, _ = lock.cycle()
    load_w = frames.estimate.rows.dot(frames.orders.cap_w)[loop_row]
    assert frames.limits.limit_w[loop_row] < lock.plan.loop_cap_w[0]
    assert load_w <= frames.limits.limit_w[loop_row] * 1.001


def shown(slot: int, factor: float, quality: Quality = Quality.GOOD) -> Callable[[Snapshot], Snapshot]:
    """A lens: one point shows `factor` times what it is, with a quality of its own."""

    def lens(shot: Snapshot) -> Snapshot:
        value, codes = shot.value.copy(), shot.quality.copy()
        value[slot] *= factor
        codes[slot] = quality
        return replace(shot, value=value, quality=codes)

    return lens


@pytest.mark.parametrize(("node", "factor"), [("feed1", 0.45), ("h1b1u1", 0.45), ("h1b1r1a", 3.0)])
def test_one_bad_sample_of_a_meter_sheds_nothing(hall: Site, node: str, factor: float) -> None:
    lock = loop(hall, "steady")
    run(lock, 200)
    before_w, clear = lock.plant.truth().cap_w.sum(), lock.wires.lens
    lock.wires.lens = shown(lock.plan.node_slot.power[hall.node_index[node]], factor)
    lock.cycle()
    lock.wires.lens = clear
    assert min(t.cap_w.sum() for t in run(lock, 10)) >= 0.98 * before_w


def test_a_restart_with_a_silent_utility_meter_goes_on_by_its_children(hall: Site) -> None:
    lock = loop(hall, "nameplate")
    before_w = run(lock, 200)[-1].cap_w.sum()
    lock.wires.lens = shown(lock.plan.node_slot.power[hall.node_index["feed1"]], np.nan, Quality.NEVER)
    lock.start_controller()
    truths = run(lock, 60)
    assert min(t.cap_w.sum() for t in truths) >= 0.98 * before_w
    assert truths[-1].cap_w.sum() >= 0.99 * before_w
    assert max(t.site_power_w for t in truths) <= hall.control.envelope_w


def test_a_standby_pump_that_says_nothing_holds_nothing_back(hall: Site) -> None:
    lock = loop(hall, "steady")
    lock.wires.lens = shown(lock.plan.pump_slot[lock.plan.pump_name.index("h1loop1-pump4")], np.nan, Quality.BAD)
    frames = [lock.cycle()[0] for _ in range(200)][-1]
    assert not (frames.orders.reason == Reason.STALE).any()
