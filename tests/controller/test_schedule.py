"""Curtailments that are planned, and maintenance: the site is there in time, and comes back by itself."""

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers_control import bench
from helpers_service import Rig
from helpers_site import tiny_site

from controller import acts, schedule
from controller.act_kinds import ActError, check, racks_of, target_of
from controller.frames import Curtailment, Requests

SITE = bench().site
TOP_W = SITE.control.envelope_w
RAMP = SITE.control.ramp_down_w_per_s


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    yield Rig(tmp_path)
    gc.unfreeze()


def planned(share: float, from_ms: int, until_ms: int, name: str = "c") -> Curtailment:
    return Curtailment(name, share * TOP_W, from_ms, until_ms, "ann")


def test_the_site_sets_out_early_enough_to_be_there_by_its_own_ramp() -> None:
    one = planned(0.8, 1_000_000, 2_000_000)
    lead_s = schedule.lead_s(SITE, one)
    assert lead_s >= 0.2 * TOP_W / RAMP
    asked = Requests(curtailments=(one,))
    begins_ms = int(1_000_000 - 1000 * lead_s)
    assert schedule.due(SITE, asked, begins_ms - 10).envelope_w is None
    assert schedule.due(SITE, asked, begins_ms + 10).envelope_w == pytest.approx(0.8 * TOP_W)
    assert schedule.due(SITE, asked, 1_999_999).envelope_by == "ann"
    assert schedule.due(SITE, asked, 2_000_000) is asked


def test_the_lowest_of_all_that_is_asked_for_holds() -> None:
    both = (planned(0.8, 1000, 9_000_000, "a"), planned(0.6, 1000, 9_000_000, "b"))
    asked = Requests(envelope_w=0.7 * TOP_W, envelope_by="bob", curtailments=both)
    assert schedule.due(SITE, asked, 5000).envelope_w == pytest.approx(0.6 * TOP_W)
    lower = Requests(envelope_w=0.5 * TOP_W, curtailments=both)
    assert schedule.due(SITE, lower, 5000) is lower


async def test_a_planned_curtailment_is_in_force_at_its_time_and_over_after_it(rig: Rig) -> None:
    """The envelope is at the plan's by its beginning, and the site's own again after its end."""
    site, now_ms = rig.bench.site, rig.clock.wall_ms()
    act = {"act": "curtail", "mw": 0.3, "from_ms": now_ms + 60_000, "until_ms": now_ms + 90_000}
    rig.at(3, lambda: acts.append(rig.folder, site, rig.clock, "ann", "the utility asked", act))
    await rig.run(130)
    envelope = {round((f["wall_ms"] - now_ms) / 1000): f["envelope_w"] for f in rig.frames}
    assert envelope[10] == site.control.envelope_w
    assert all(envelope[t] == pytest.approx(0.3e6) for t in range(62, 89))
    assert envelope[125] == site.control.envelope_w
    assert "by ann" in next(f["envelope_by"] for f in rig.frames if f["wall_ms"] > now_ms + 70_000)


async def test_racks_in_maintenance_go_to_their_safe_caps_and_stay_there(rig: Rig) -> None:
    rack = rig.bench.site.racks[0]
    caps: list[float] = []

    def look() -> None:
        caps.append(float(rig.building.holder.step(rig.clock.now_s())[0]))

    def park() -> None:
        look()
        acts.append(rig.folder, rig.bench.site, rig.clock, "ann", "fans", {"act": "park", "rack": rack.id})

    for reading in range(30, 120):
        rig.at(reading, park if reading == 40 else look)
    await rig.run(125)
    assert caps[5] > rack.safe_cap_w
    assert np.diff(caps[12:]).max() <= 1.0  # never up again
    assert caps[-1] == pytest.approx(rack.safe_cap_w, abs=rig.bench.plan.resolution_w[0])


def test_a_hold_is_of_a_rack_a_job_or_all_below_a_node() -> None:
    assert racks_of(SITE, {"act": "hold", "rack": "r1"}) == ("r1",)
    feed = SITE.nodes[0].id
    below = racks_of(SITE, {"act": "hold", "node": feed})
    assert set(below) == {r.id for r in SITE.racks if feed in {*SITE.ancestors(r.pdu_a), *SITE.ancestors(r.pdu_b)}}
    assert target_of(SITE, feed) == {"node": feed}
    for wrong in ({"act": "hold"}, {"act": "hold", "rack": "r1", "node": feed}, {"act": "hold", "node": "x"}):
        with pytest.raises(ActError):
            racks_of(SITE, wrong)
    with pytest.raises(ActError, match="no rack, job or node"):
        target_of(SITE, "nothing")


@pytest.mark.parametrize("times", [(5, 5), (6, 5), (0, 5), (1, 1 << 60), (1, 40 * 86_400_000), ("1", 2), (1.5, 2)])
def test_a_curtailment_of_impossible_times_is_refused(times: tuple[object, object]) -> None:
    with pytest.raises(ActError):
        check(SITE, {"act": "curtail", "mw": TOP_W / 2e6, "from_ms": times[0], "until_ms": times[1]})


@pytest.mark.parametrize(
    ("act", "back"),
    [
        ({"act": "hold", "rack": "r1"}, [{"act": "release", "rack": "r1"}]),
        ({"act": "unpark", "node": "feed2"}, [{"act": "park", "rack": "r4"}]),
        ({"act": "park", "node": "feed2"}, [{"act": "unpark", "rack": x} for x in ("r1", "r2")]),
        ({"act": "park", "node": "feed1"}, [{"act": "unpark", "node": "feed1"}]),
        ({"act": "park", "rack": "r4"}, []),
        ({"act": "mode", "mode": "off"}, [{"act": "mode", "mode": "live"}]),
        ({"act": "envelope", "mw": 0.2}, [{"act": "envelope", "mw": 0.3, "within_s": 30.0}]),
        ({"act": "curtail", "id": "7"}, [{"act": "cancel", "plan": "7"}]),
        ({"act": "cancel", "plan": "c"}, [{"act": "curtail", "mw": 0.1, "from_ms": 1, "until_ms": 2}]),
        ({"act": "priority", "job": "j", "priority": 1}, [{"act": "priority", "job": "j", "priority": 4}]),
        ({"act": "shelve", "alarm": "a/b"}, [{"act": "unshelve", "alarm": "a/b"}]),
        ({"act": "ack", "alarm": "a/b"}, []),
    ],
)
def test_what_an_act_changed_is_brought_back(act: dict[str, object], back: list[dict[str, object]]) -> None:
    before = Requests(
        envelope_w=0.3e6, envelope_within_s=30.0, curtailments=(Curtailment("c", 0.1e6, 1, 2),), priority=(("j", 4),),
        parked=frozenset({"r4"}),
    )  # fmt: skip
    assert acts.inverse(tiny_site(), before, act) == back


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"act": "envelope", "mw": 1}, {"act": "envelope", "mw": None}, True),
        ({"act": "envelope", "mw": 1}, {"act": "mode", "mode": "off"}, False),
        ({"act": "curtail", "id": "7"}, {"act": "cancel", "plan": "7"}, True),
        ({"act": "curtail", "id": "7"}, {"act": "cancel", "plan": "8"}, False),
        ({"act": "hold", "node": "feed1"}, {"act": "release", "rack": "r2"}, True),
        ({"act": "hold", "rack": "r1"}, {"act": "release", "rack": "r2"}, False),
        ({"act": "hold", "rack": "r1"}, {"act": "park", "rack": "r1"}, False),
        ({"act": "priority", "job": "a"}, {"act": "priority", "job": "b"}, False),
        ({"act": "shelve", "alarm": "a/b"}, {"act": "unshelve", "alarm": "a/b"}, True),
    ],
)
def test_a_later_act_on_the_same_thing_is_known(one: dict[str, object], other: dict[str, object], same: bool) -> None:
    assert acts.same_thing(tiny_site(), one, other) == acts.same_thing(tiny_site(), other, one) == same


def test_curtailments_that_are_over_make_room_and_none_is_dropped_unsaid() -> None:
    now = Requests()
    for i in range(acts.MOST_PLANNED):
        plan = {"act": "curtail", "id": str(i), "mw": 0.1, "from_ms": 100, "until_ms": 200 + i, "at_ms": 1}
        now = acts.apply(tiny_site(), now, plan)
    late = {"act": "curtail", "id": "late", "mw": 0.1, "from_ms": 100, "until_ms": 900, "at_ms": 199}
    with pytest.raises(acts.ActError, match="cancel some"):
        acts.apply(tiny_site(), now, late)
    after = acts.apply(tiny_site(), now, late | {"at_ms": 202})
    assert [c.id for c in after.curtailments] == [str(i) for i in range(3, acts.MOST_PLANNED)] + ["late"]
