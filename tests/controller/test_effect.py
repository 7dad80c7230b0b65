"""What an act would do: told before it is done, and true when it has been."""

from typing import Any

import pytest
from helpers_console import Cycles, hall

from controller import answers, jobs
from controller.answers import AskError
from controller.frames import Curtailment, Requests

pytestmark = pytest.mark.usefixtures("warm_kernels")


@pytest.fixture(scope="module")
def cycles() -> Cycles:
    return hall()


def told(c: Cycles, act: dict[str, Any], asked: Requests | None = None) -> dict[str, Any]:
    world = answers.World(c.plan, c.frames[-1], c.state, c.latest, asked=asked or Requests())
    return answers.answer(world, {"ask": "effect", "act": act})


def test_a_lower_envelope_takes_as_much_as_it_is_lower(cycles: Cycles) -> None:
    at_5 = told(cycles, {"act": "envelope", "mw": 5.0})
    at_4 = told(cycles, {"act": "envelope", "mw": 4.5})
    assert at_5["envelope_w"] == pytest.approx(5e6)
    lost_w = at_5["then_w"] - at_4["then_w"]
    assert 0.4e6 < lost_w < 0.5e6  # half a megawatt at the meters, less what cooling and losses save
    assert at_4["racks_lowered"] > 0
    assert any("ramp" in line for line in at_4["lines"])


def test_an_envelope_below_the_floors_says_that_jobs_would_be_paused(cycles: Cycles) -> None:
    assert told(cycles, {"act": "envelope", "mw": 1.0})["sheds"]


def test_maintenance_brings_racks_to_their_safe_caps(cycles: Cycles) -> None:
    rack = cycles.site.racks[0]
    found = told(cycles, {"act": "park", "rack": rack.id})
    assert f"{rack.safe_cap_w / 1e3:,.1f} kW" in found["lines"][0]
    under = told(cycles, {"act": "park", "node": "h1b1u1"})
    assert int(under["lines"][0].split()[0]) == len(
        [
            r
            for r in cycles.site.racks
            if {"h1b1u1"} & {*cycles.site.ancestors(r.pdu_a), *cycles.site.ancestors(r.pdu_b)}
        ]
    )


def test_a_higher_class_is_served_first(cycles: Cycles) -> None:
    """The job that stands last moves to the front: it gains, others pay."""
    last = max(cycles.site.racks, key=lambda r: r.priority).job
    found = told(cycles, {"act": "priority", "job": last, "priority": 0})
    change_w = {j["job"]: j["then_w"] - j["now_w"] for j in found["jobs"]}
    assert change_w.pop(last) > 1e5
    assert change_w
    assert all(w < 0.0 for w in change_w.values())
    plan = jobs.with_jobs(cycles.plan, (), {last: 0})
    of = [i for i, r in enumerate(cycles.site.racks) if r.job == last]
    assert set(plan.gang_class[plan.gang_of[of]]) == {0}
    back = jobs.with_jobs(plan, (), {})
    assert (back.gang_class == cycles.plan.gang_class).all()


def test_a_cancelled_curtailment_gives_the_sites_own_envelope_back(cycles: Cycles) -> None:
    planned = Requests(curtailments=(Curtailment("c1", 4.2e6, 1, 2),))
    own_w = cycles.site.control.envelope_w
    assert told(cycles, {"act": "cancel", "plan": "c1"}, planned)["envelope_w"] == pytest.approx(own_w)
    curtailed = Requests(envelope_w=4.5e6)
    assert told(cycles, {"act": "envelope", "mw": None}, curtailed)["envelope_w"] == pytest.approx(own_w)


def test_silence_says_what_it_costs_to_get_there(cycles: Cycles) -> None:
    assert "safe caps" in told(cycles, {"act": "mode", "mode": "off"})["lines"][0]
    assert "already" in told(cycles, {"act": "mode", "mode": "live"})["lines"][0]


@pytest.mark.parametrize("act", [{}, None, {"act": "envelope", "mw": -1}, {"act": "hold", "rack": "x"}, 7])
def test_what_is_no_act_has_no_effect(cycles: Cycles, act: Any) -> None:
    with pytest.raises(AskError):
        told(cycles, act)
