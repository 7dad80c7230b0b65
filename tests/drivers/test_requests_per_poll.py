"""How many requests one poll of a profile takes: what a gateway's time is planned with."""

import pytest

from drivers.modbus.plan import requests_per_poll
from drivers.profile import Block, Point, Profile


def _points(*spans: tuple[int, str, bool]) -> tuple[Point, ...]:
    return tuple(
        Point.model_validate({"name": f"p{a}", "unit": "", "addr": a, "type": t, "poll": poll}) for a, t, poll in spans
    )


@pytest.mark.parametrize(
    ("points", "holes_ok", "most", "requests"),
    [
        (((0, "f32", True), (2, "f32", True)), False, 125, 1),
        (((0, "f32", True), (4, "f32", True)), False, 125, 2),  # nobody declared 2 and 3
        (((0, "f32", True), (4, "f32", True)), True, 125, 1),
        (((0, "f32", True), (2, "f32", False), (4, "f32", True)), False, 125, 1),
        (((0, "f32", True), (2, "f32", True), (4, "f32", True)), False, 4, 2),
        (((0, "f32", True), (100, "f32", True)), True, 125, 2),  # in two blocks
        (((0, "f32", False),), False, 125, 0),
    ],
)
def test_requests_per_poll(points: tuple[tuple[int, str, bool], ...], holes_ok: bool, most: int, requests: int) -> None:
    blocks = (Block(first=0, last=49), Block(first=50, last=149))
    profile = Profile(
        name="x", title="", protocol="modbus", source="", trust="memory", blocks=blocks,
        holes_ok=holes_ok, max_registers=most, points=_points(*points),
    )  # fmt: skip
    assert requests_per_poll(profile) == requests
