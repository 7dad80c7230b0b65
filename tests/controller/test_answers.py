"""Answers about losses and outages: complete, bounded, and equal wherever they are computed."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers_site import tiny_site

from controller import answers, outage, present
from controller.answers import AskError, World
from controller.frames import Shed
from controller.prepare import Latest
from drivers.site.load import resolve_site
from drivers.site.model import Site


@pytest.fixture(scope="module")
def hall() -> Site:
    return resolve_site("hall")


@pytest.fixture(scope="module")
def world(hall: Site) -> World:
    return answers.by_design(hall)


def asked(world: World, **question: Any) -> Any:
    """The answer, through JSON and back; NaN and infinity are not JSON."""
    return json.loads(json.dumps(answers.answer(world, question), allow_nan=False))


def test_every_loss_is_there_when_all_are_asked_for(world: World) -> None:
    reply = asked(world, ask="contingencies", all=True)
    assert reply["count"] == len(world.plan.losses.cases) == len(reply["losses"])
    assert {(x["kind"], x["id"]) for x in reply["losses"]} == {(x.kind, x.id) for x in world.plan.losses.cases}
    keys = [(x["secured"], np.inf if x["margin"] is None else x["margin"]) for x in reply["losses"]]
    assert keys == sorted(keys)
    text = "\n".join(reply["lines"])
    assert all(x.id in text for x in world.plan.losses.cases)


def test_a_long_list_is_rolled_up_to_what_is_bad_and_the_worst_of_each_kind(world: World) -> None:
    short, whole = asked(world, ask="contingencies"), asked(world, ask="contingencies", all=True)
    assert len(short["losses"]) < len(whole["losses"])
    assert short["not_secured"] == whole["not_secured"]
    assert short["not_secured"]  # one of two feeds carries not all
    assert {x["kind"] for x in short["losses"]} == {x.kind for x in world.plan.losses.cases}
    assert sum(k["count"] for k in short["kinds"].values()) == short["count"]
    assert sum(k["not_secured"] for k in short["kinds"].values()) == len(short["not_secured"])
    assert f"{short['count']} losses, {len(short['not_secured'])} not secured" in short["lines"][0]
    for x in short["losses"]:
        assert x["reason"]
        assert x["secured"] or x["would_help"]


def test_a_list_that_counts_on_a_lost_element_says_so(world: World) -> None:
    case = next(i for i, x in enumerate(world.plan.losses.cases) if x.kind == "transformer")
    name = world.plan.losses.cases[case].id
    estimate = replace(world.frames.estimate, lost=(case,))
    reply = asked(replace(world, frames=replace(world.frames, estimate=estimate)), ask="contingencies")
    assert reply["lost"] == [name]
    assert reply["lines"][1].startswith(f"{name} is lost: ")
    assert asked(world, ask="contingencies")["lost"] == []


def test_nobody_obeying_is_a_list_like_any_other(hall: Site) -> None:
    control = hall.control.model_copy(update={"disobedient_share": 1.0})
    reply = asked(answers.by_design(hall.model_copy(update={"control": control})), ask="contingencies", all=True)
    assert reply["not_secured"]
    text = next(x["would_help"] for x in reply["losses"] if x["id"] == "feed2")
    assert "storage bess1 there has 1.50 MW of it" in text  # 1.9 MW are too much


def test_an_outage_tells_caps_losses_and_verdict(world: World) -> None:
    element = next(n.id for n in world.plan.site.nodes if n.kind == "ups")
    reply = asked(world, ask="outage", element=element)
    assert reply["id"] == element
    assert set(reply["cap_w"]) == set(reply["now_w"]) == set(world.plan.site.rack_index)
    assert reply["lines"][0] == reply["words"]
    assert element in reply["words"]
    bad = {x["id"] for x in reply["no_longer"]}
    assert not bad & set(asked(world, ask="contingencies")["not_secured"])


@pytest.mark.parametrize("element", ["h1b1u9", "", None, 7, ["sub1"], "x" * 10_000])
def test_an_unknown_element_is_told_so(world: World, element: object) -> None:
    with pytest.raises(AskError, match="there is no element") as told:
        answers.answer(world, {"ask": "outage", "element": element})
    assert len(str(told.value)) < 400


def test_a_controller_spends_no_seconds_on_an_answer(world: World) -> None:
    busy = replace(world, patient=False)
    with pytest.raises(AskError, match="headroom outage"):
        answers.answer(busy, {"ask": "outage", "element": "sub1"})
    for kind in ("contingencies", "bottlenecks"):
        with pytest.raises(AskError, match="not computed yet"):
            answers.answer(busy, {"ask": kind})


def test_the_present_state_travels_whole(hall: Site, world: World) -> None:
    """An outage computed by the asker equals the one that the controller would have computed."""
    f = world.frames
    cap_w = np.maximum(f.orders.cap_w * 0.9, world.plan.floor_w)
    shed = np.where(np.arange(len(cap_w)) < 3, np.uint8(Shed.PAUSE), np.uint8(Shed.NONE))
    known = replace(f.estimate, demand_w=0.95 * f.estimate.demand_w, trip_used=f.estimate.trip_used + 0.1)
    image = replace(f.image, cycle=77, now_s=1234.5)
    frames = replace(f, image=image, estimate=known, orders=replace(f.orders, cap_w=cap_w, shed=shed))
    running = replace(world, frames=frames, latest=Latest(), note="", patient=False)
    reply = asked(running, ask="now")
    there = answers.by_state(hall, reply)
    assert asked(there, ask="outage", element="h1b1u2")["source"] == "cycle 77"
    own = outage.outage(world.state.allocate.kit, known, f.limits, cap_w, "h1b1u2", shed)
    far = outage.outage(
        there.state.allocate.kit, there.frames.estimate, there.frames.limits, there.frames.orders.cap_w, "h1b1u2",
        there.frames.orders.shed,
    )  # fmt: skip
    assert repr(own) == repr(far)


def test_the_state_of_another_site_is_refused(world: World) -> None:
    reply = present.packed(world.frames)
    fewer = replace(world.frames, estimate=replace(world.frames.estimate, demand_w=np.zeros(3)))
    with pytest.raises(ValueError, match="another site"):
        present.unpacked(world.plan, fewer, reply)


def test_a_controller_of_changed_files_is_told_as_such(world: World) -> None:
    reply = answers.answer(replace(world, note=""), {"ask": "now"})
    with pytest.raises(AskError, match="other site files"):
        answers.by_state(tiny_site(), reply)
    with pytest.raises(AskError, match="other site files"):
        answers.by_state(tiny_site(), {})


@pytest.mark.parametrize("question", [{}, {"ask": None}, {"ask": ["explain"]}, {"ask": "everything"}])
def test_a_question_that_is_none_is_told_what_there_is(world: World, question: dict[str, Any]) -> None:
    with pytest.raises(AskError, match=r"give one of explain, bottlenecks, contingencies"):
        answers.answer(world, question)
