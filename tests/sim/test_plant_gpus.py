"""GPUs that differ: what a rack does under one cap for all of them, and under caps of their own."""

from collections.abc import Mapping

import numpy as np
import pytest
from helpers_plant import FULL, make_plant
from helpers_site import tiny_site

from drivers.lease import NO_GPU, Lease
from drivers.points import Floats
from drivers.site.model import Site
from sim.plant.gpus import SPREAD, gpu_wants
from sim.plant.jobs import WAIT_SHARE, work_speed
from sim.plant.plant import Plant

OTHER_W, GPUS, FULL_W = 20_400.0, 64, 81_600.0
SERVING, TRAINING = 3, slice(0, 3)


def gpu_site(**changes: object) -> Site:
    """The tiny site with caps per GPU; its last rack has fewer of them."""
    site = tiny_site()
    racks = (*site.racks[:-1], site.racks[-1].model_copy(update={"gpus": 48}))
    return tiny_site(control=site.control.model_copy(update={"leaf": "gpu"}), racks=racks, **changes)


def plant_of(*events: Mapping[str, object], uniform: bool = False) -> Plant:
    """A full plant; `uniform`: every GPU wants the same."""
    plant = make_plant(*(events or FULL), site=gpu_site(), inference_daily=0.0)
    if uniform:
        alike(plant)
    return plant


def alike(plant: Plant) -> None:
    """From now on no GPU differs from another."""
    plant.gpus.wish[:] = plant.gpus.plate[:] = 1.0
    plant.gpus.above_k[:] = 0.0


def order(plant: Plant, seq: int, cap_w: int, gpu_cap_w: Floats | None = None) -> None:
    """A lease of a minute for all racks; `gpu_cap_w` [R, 64] in whole W."""
    for group in plant.agents.groups.values():
        n = len(group.racks)
        caps, safe = np.full(n, cap_w, dtype=np.int64), np.full(n, 61_200, dtype=np.int64)
        echo, per_gpu = plant.agents.holder.beat[group.racks], None
        if gpu_cap_w is not None:
            assert group.gpus is not None
            there = np.arange(GPUS) < group.gpus[:, None]
            per_gpu = np.where(there, gpu_cap_w[group.racks], NO_GPU).astype(np.int64)
        lease = Lease(group.name, group.roster, 1, seq, 60.0, 5.0, echo, caps, safe, None, per_gpu)
        assert not plant.accept_lease(lease).any()


def wishes(plant: Plant, rack: int) -> Floats:
    """Demand of each GPU of a rack at its plateau [W]."""
    g, r = plant.gpus, plant.network.racks
    wants = gpu_wants(r, g, plant.thermal.silicon_c)[g.start[rack] : g.start[rack + 1]]
    want_w: Floats = wants * float(plant.jobs.plateau_w[rack] - r.other_w[rack]) / wants.sum()
    return want_w


def speed(plant: Plant, rack: int, share: float) -> float:
    """The work law of a rack."""
    jobs = plant.jobs
    return work_speed(share, float(jobs.static[rack]), float(jobs.compute_share[plant.network.racks.gang[rack]]))


def test_wishes_differ_by_a_few_percent_around_their_racks_mean() -> None:
    plant = plant_of()
    for rack, gpus in enumerate((64, 64, 64, 48)):
        wish = plant.gpus.wish[plant.gpus.start[rack] : plant.gpus.start[rack + 1]]
        assert len(wish) == gpus
        assert wish.mean() == pytest.approx(1.0, abs=1e-6)
        assert 0.5 * SPREAD < wish.std() < 1.5 * SPREAD


def test_gpus_that_are_all_alike_make_the_rack_whose_cap_is_its_own() -> None:
    fine = plant_of(uniform=True)
    site = gpu_site()
    plain = make_plant(
        *FULL,
        site=site.model_copy(update={"control": site.control.model_copy(update={"leaf": "rack"})}),
        inference_daily=0.0,
    )
    alike(plain)
    for seq, cap_w in enumerate((81_600, 55_000, 47_000, 70_000), start=1):
        order(fine, seq, cap_w)
        order(plain, seq, cap_w)
        for _ in range(12):
            fine.step()
            plain.step()
            assert fine.jobs.power_w == pytest.approx(plain.jobs.power_w, rel=2e-3)  # looked at where it moves by 0.2 %
    assert fine.jobs.work == pytest.approx(plain.jobs.work, rel=1e-3)


def test_under_one_cap_a_training_rack_is_as_fast_as_its_hungriest_gpu() -> None:
    plant = plant_of()
    cap_w = 60_000
    order(plant, 1, cap_w)
    plant.step(20.0)
    share_w = (cap_w - OTHER_W) / GPUS
    expected = np.array([speed(plant, r, share_w / wishes(plant, r).max()) for r in range(3)])
    assert plant.jobs.speed[TRAINING] == pytest.approx(expected, rel=3e-5)
    assert plant.jobs.pace[plant.network.racks.gang[0]] == pytest.approx(expected.min(), rel=3e-5)


def test_energy_of_a_rack_whose_gpus_wait_for_the_slowest() -> None:
    plant = plant_of()
    cap_w = 72_000
    order(plant, 1, cap_w)
    plant.step(20.0)
    pace = float(plant.jobs.pace[plant.network.racks.gang[0]])
    for rack in range(3):
        want_w, share_w, base_w = wishes(plant, rack), (cap_w - OTHER_W) / GPUS, OTHER_W / GPUS
        own = np.array([speed(plant, rack, min(1.0, share_w / w)) for w in want_w])
        run_w = base_w + np.minimum(want_w, share_w)
        wait_w = WAIT_SHARE * (base_w + want_w)
        expected_w = (wait_w + (run_w - wait_w) * pace / own).sum()
        assert plant.truth().rack_w[rack] == pytest.approx(expected_w, rel=3e-5)


def test_caps_that_follow_the_wishes_make_the_same_power_do_more_work() -> None:
    plant = plant_of()
    cap_w = 60_000
    order(plant, 1, cap_w)
    plant.step(20.0)
    before = plant.jobs.pace[plant.network.racks.gang[0]]
    per_gpu = np.full((4, GPUS), 900.0)
    for rack in range(3):
        want_w = wishes(plant, rack)
        per_gpu[rack] = np.floor((cap_w - OTHER_W) * want_w / want_w.sum())
    order(plant, 2, cap_w, per_gpu)
    plant.step(20.0)
    after = plant.jobs.pace[plant.network.racks.gang[0]]
    share = (cap_w - OTHER_W) / (FULL_W - OTHER_W)
    assert after == pytest.approx(min(speed(plant, r, share) for r in range(3)), rel=0.01)
    assert after > before * 1.02
    assert plant.truth().rack_w[TRAINING].max() <= cap_w * (1 + 1e-9)


def test_serving_gpus_draw_the_lesser_of_cap_and_demand_each() -> None:
    plant = plant_of({"do": "training", "to": 1.0, "depth": 0.0}, {"do": "inference", "to": 0.8})
    per_gpu = np.full((4, GPUS), 900.0)
    per_gpu[SERVING, ::2] = 700.0
    order(plant, 1, 81_600, per_gpu)
    plant.step(20.0)
    wants = wishes(plant, SERVING)
    now_w = float(plant.jobs.demand_w[SERVING] - OTHER_W) * wants / wants.sum()
    expected_w = OTHER_W + np.minimum(now_w, per_gpu[SERVING, :48]).sum()
    assert plant.truth().rack_w[SERVING] == pytest.approx(expected_w, rel=1e-6)
    shares = np.minimum(1.0, per_gpu[SERVING, :48] / wishes(plant, SERVING))
    assert plant.jobs.speed[SERVING] == pytest.approx(np.mean([speed(plant, SERVING, x) for x in shares]), rel=1e-6)


def test_the_racks_cap_binds_however_high_the_caps_of_its_gpus() -> None:
    plant = plant_of()
    order(plant, 1, 50_000, np.full((4, GPUS), 900.0))
    plant.step(10.0)
    assert plant.truth().rack_w.max() <= 50_000 * (1 + 1e-9)
    order(plant, 2, 81_600, np.full((4, GPUS), 300.0))
    plant.step(10.0)
    assert plant.truth().rack_w[TRAINING] == pytest.approx(OTHER_W + 300.0 * GPUS, rel=1e-6)
    order(plant, 3, 81_600, np.full((4, GPUS), 1.0))
    plant.step(10.0)
    assert plant.truth().rack_w[TRAINING] == pytest.approx(OTHER_W + 200.0 * GPUS, rel=1e-6)


def test_without_caps_of_their_own_the_share_of_the_racks_cap_comes_back() -> None:
    plant = plant_of()
    order(plant, 1, 81_600, np.full((4, GPUS), 300.0))
    plant.step(10.0)
    order(plant, 2, 60_000)
    plant.step(10.0)
    assert plant.gpus.limit_w[:GPUS] == pytest.approx((60_000 - OTHER_W) / GPUS, rel=1e-6)


def test_agents_report_each_gpus_power_and_the_rack_is_their_sum() -> None:
    plant = plant_of()
    order(plant, 1, 60_000)
    plant.step(5.0)
    slab = plant.inventory.slab("gpu")
    assert slab is not None
    shown = slab.view(plant.measure())
    assert shown.shape == (4, GPUS)
    assert np.isnan(shown[SERVING, 48:]).all()
    assert np.nansum(shown, axis=1) + OTHER_W == pytest.approx(plant.readings.rack_mean_w(), abs=GPUS)
    reports = {r.group: r for r in plant.reports()}
    assert reports["g2"].gpu_w is not None
    assert reports["g2"].gpu_w.tolist() == np.where(np.isnan(shown[2:]), NO_GPU, shown[2:]).tolist()


def test_a_site_of_racks_has_no_slots_and_no_reports_of_gpus() -> None:
    plant = make_plant(*FULL)
    plant.step()
    assert plant.inventory.slab("gpu") is None
    assert all(report.gpu_w is None for report in plant.reports())
