"""A training job that crashes loses the work since its last checkpoint and stands until it has started again."""

import pytest
from helpers_plant import UNCAPPED, make_plant

from sim.lab.record import Worked
from sim.plant.plant import Plant

FULL = ({"do": "training", "to": 1.0, "depth": 0.0}, {"do": "inference", "to": 0.8}, UNCAPPED)
RACKS = 3  # of the tiny site's one training job


def gang(plant: Plant) -> int:
    return int(plant.network.racks.gang[0])


def run(plant: Plant, seconds: float) -> tuple[float, list[float]]:
    """Net work of the training job, and its first rack's power."""
    before, powers = float(plant.jobs.work[gang(plant)]), []
    for _ in range(round(seconds * 4)):
        plant.step()
        powers.append(float(plant.jobs.power_w[0]))
    return float(plant.jobs.work[gang(plant)]) - before, powers


def test_a_crash_loses_all_since_the_start_where_there_are_no_checkpoints() -> None:
    plant = make_plant(*FULL, {"do": "crash", "at_s": 60.0, "restart_s": 20.0})
    done, _ = run(plant, 60.0)
    assert done == pytest.approx(RACKS * 60.0)
    lost, powers = run(plant, 20.0)
    assert lost == pytest.approx(-RACKS * 60.0)
    assert max(powers[:-4]) == pytest.approx(20000.0, rel=1e-6)
    again, powers = run(plant, 20.0)
    assert again == pytest.approx(RACKS * 20.0, abs=1.0)
    assert powers[-1] == pytest.approx(81600.0, rel=0.02)
    assert plant.truth().undone == pytest.approx(RACKS * 60.0)


def test_a_checkpoint_keeps_what_was_done_before_it() -> None:
    ends = {}
    for every_s in (0.0, 40.0):
        training = {"do": "training", "to": 1.0, "depth": 0.0, "checkpoint_every_s": every_s}
        plant = make_plant(training, UNCAPPED, {"do": "crash", "at_s": 100.0, "restart_s": 5.0})
        plant.step(100.0)
        g, worked = gang(plant), float(plant.jobs.work[gang(plant)])
        plant.step(1.0)
        ends[every_s] = worked - float(plant.jobs.work[g])
        assert plant.jobs.work[g] == pytest.approx(plant.jobs.saved[g])
    assert ends[0.0] == pytest.approx(RACKS * 100.0)
    assert 0.0 <= ends[40.0] <= RACKS * 40.0


def test_a_rack_in_the_dark_is_a_crash_of_its_job_and_no_other() -> None:
    lost = [{"do": "outage", "at_s": 30.0, "for_s": 10.0, "id": f"r1{cord}"} for cord in "ab"]
    plant = make_plant(*FULL, *lost)
    plant.step(30.0)
    served = float(plant.jobs.work.sum() - plant.jobs.work[gang(plant)])
    lost_work, powers = run(plant, 10.0)
    assert lost_work == pytest.approx(-RACKS * 30.0)
    assert powers[1] == 0.0
    assert plant.jobs.power_w[1] == pytest.approx(20000.0, rel=1e-6)  # its processes have ended
    stands, powers = run(plant, 59.0)
    assert stands == 0.0
    assert powers[-1] == pytest.approx(20000.0, rel=1e-6)
    again, _ = run(plant, 11.0)
    assert again == pytest.approx(RACKS * 10.0, abs=RACKS * 1.0)
    after = float(plant.jobs.work.sum() - plant.jobs.work[gang(plant)])
    assert after - served == pytest.approx(80.0, rel=0.01)


def test_one_cord_is_no_crash_and_a_pause_on_order_loses_nothing() -> None:
    plant = make_plant(*FULL, {"do": "outage", "at_s": 20.0, "id": "r1a"})
    plant.step(40.0)
    assert plant.truth().undone == 0.0
    plant.agents.holder.shed[0] = 1
    plant.step(20.0)
    assert plant.truth().undone == 0.0


def test_lost_work_counts_in_the_record_but_never_below_what_it_has_seen() -> None:
    plant = make_plant(*FULL, {"do": "crash", "at_s": 60.0, "restart_s": 20.0})
    plant.step(40.0)
    worked = Worked(plant)
    for _ in range(240):
        plant.step()
        worked.take(plant)
    training = float(worked.by_gang[gang(plant)])
    assert training == pytest.approx(RACKS * 20.0, abs=1.0)  # 20 s lost, 20 s of standing, 20 s again
    assert worked.asked.sum() == pytest.approx(4 * 60.0)
    assert worked.worst_gang() == pytest.approx(20.0 / 60.0, abs=0.01)
    assert worked.share() == pytest.approx((training + 60.0) / 240.0, abs=0.02)
