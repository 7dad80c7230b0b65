"""Paths told by `servesId` against the site file: agreement is silent, every difference has names."""

import json
from typing import Any

import pytest
from helpers_site import tiny_site
from hypothesis import given
from hypothesis import strategies as st

from drivers.clock import VirtualClock
from drivers.mqtt.dsx_paths import AGAIN_S, QUIET_S, PathBook, SitePaths
from drivers.mqtt.dsx_topics import METADATA
from drivers.profile import load_profiles
from drivers.site.load import resolve_site
from drivers.site.model import Site
from sim.serve.bms_objects import bms_groups

SITE = tiny_site()


def told_by_the_plant(site: Site) -> dict[str, dict[str, Any]]:
    groups = bms_groups(site, load_profiles())
    return {METADATA + p.key: json.loads(p.metadata) for group in groups.values() for p in group.points}


def compare(site: Site, told: dict[str, dict[str, Any]], alias: dict[str, str] | None = None) -> tuple[str, ...]:
    clock = VirtualClock()
    book = PathBook(site, clock)
    for topic, body in told.items():
        book.enter(topic, body, (alias or {}).get(topic, ""))
    clock.advance(QUIET_S)
    book.tick()
    return book.differences


def meter(name: str, *serves: str) -> dict[str, dict[str, Any]]:
    return {f"{METADATA}PowerMeter/ActivePower/{name}/x": {"objectId": name, "servesId": list(serves)}}


@pytest.mark.parametrize("site", [SITE, resolve_site("hall")], ids=["tiny", "hall"])
def test_what_the_plant_tells_agrees_with_the_site(site: Site) -> None:
    told = told_by_the_plant(site)
    assert any(body.get("servesId") for body in told.values())
    assert compare(site, told) == ()


def of(kind: str) -> str:
    return next(n.id for n in SITE.nodes if n.kind == kind and SitePaths(SITE).children.get(n.id))


def test_every_kind_of_difference_has_its_names() -> None:
    paths = SitePaths(SITE)
    ups = of("ups")
    (*others, last) = children = paths.children[ups]
    assert compare(SITE, meter(ups, *children)) == ()
    assert compare(SITE, meter(ups, *others)) == (f"'{ups}' feeds '{last}' in the site file, the BMS does not say so",)
    assert compare(SITE, meter(ups, *children, "annex")) == (f"'{ups}' serves 'annex', which is not in the site file",)
    other = next(n.id for n in SITE.nodes if n.kind == "busway" and n.id not in paths.below(ups))
    parent = paths.parents[other][0]
    assert compare(SITE, meter(ups, *children, other)) == (
        f"'{ups}' serves '{other}', which the site file feeds from '{parent}'",
    )


def test_objects_that_only_the_bms_knows_are_looked_through() -> None:
    ups = of("ups")
    children = SitePaths(SITE).children[ups]
    breaker = {f"{METADATA}Breaker/Status/b1/x": {"objectId": "b1", "servesId": children}}
    assert compare(SITE, meter(ups, "b1") | breaker) == ()
    ring = {f"{METADATA}Breaker/Status/b2/x": {"objectId": "b2", "servesId": ["b1", "b2", *children]}}
    breaker[f"{METADATA}Breaker/Status/b1/x"]["servesId"] = ["b2"]
    assert compare(SITE, meter(ups, "b1") | breaker | ring) == ()


def test_levels_may_be_left_out() -> None:
    paths, ups = SitePaths(SITE), of("ups")
    grandchildren = [g for c in paths.children[ups] for g in paths.children[c]]
    assert compare(SITE, meter(ups, *grandchildren)) == ()
    assert len(compare(SITE, meter(ups, *grandchildren[1:]))) == 1


def test_the_bmss_own_ids_are_those_of_the_devices_topics() -> None:
    loop = SITE.loops[0].id
    cdus = [c.id for c in SITE.cdus if c.loop == loop]
    topic = f"{METADATA}HX/LiquidTemperature/x/y"
    told = {topic: {"objectId": "HX-07", "servesId": [*cdus[1:]]}}
    assert compare(SITE, told, {topic: loop}) == (
        f"'{loop}' feeds '{cdus[0]}' in the site file, the BMS does not say so",
    )


def test_withdrawn_metadata_is_forgotten_and_nothing_is_judged_before_the_bus_is_quiet() -> None:
    clock = VirtualClock()
    book = PathBook(SITE, clock)
    ((topic, body),) = meter(of("ups"), "annex").items()
    book.enter(topic, body)
    book.tick()
    assert book.differences == ()
    clock.advance(QUIET_S)
    book.tick()
    assert "annex" in book.note()
    assert "more" in book.note()
    book.enter(topic, None)
    clock.advance(QUIET_S)
    book.tick()
    assert book.note(), "not so soon again"
    clock.advance(AGAIN_S)
    book.tick()
    assert (book.differences, book.note()) == ((), "")


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.sampled_from([n.id for n in SITE.nodes]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)


@given(st.lists(st.fixed_dictionaries({"objectId": anything, "servesId": anything}), max_size=6))
def test_any_metadata_is_survived(bodies: list[dict[str, Any]]) -> None:
    compare(SITE, {f"{METADATA}UPS/Status/{i}/x": body for i, body in enumerate(bodies)})
