"""The read plan covers every polled register in as few requests as the profile allows, and takes no liberties."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus.plan import plan_reads, requests_per_poll, single_reads
from drivers.profile import WORDS, Block, Point, Profile, lint_profile, load_profiles

PROFILES = {name: p for name, p in load_profiles().items() if p.protocol == "modbus"}
REQUESTS = {
    "raritan_px_xerus": 1,
    "janitza_umg96rm": 1,
    "schneider_pm5560": 1,
    "delta_rpu_orv3": 2,
    "sunspec_battery": 2,
}


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    """Random points in one or two blocks, no overlaps."""
    points: list[Point] = []
    addr = draw(st.integers(0, 5))
    for i in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["u16", "f32", "u64"]))
        points.append(Point(name=f"x{i}", unit="", addr=addr, type=kind, poll=draw(st.booleans())))
        addr += WORDS[kind] + draw(st.sampled_from([0, 0, 0, 1, 7]))
    cut = draw(st.sampled_from([p.addr for p in points]))
    blocks = (Block(first=cut, last=addr), *((Block(first=0, last=cut - 1),) if cut else ()))
    return Profile(
        name="x",
        title="X",
        protocol="modbus",
        source="-",
        trust="memory",
        blocks=blocks,
        holes_ok=draw(st.booleans()),
        max_registers=draw(st.sampled_from([4, 9, 125])),
        points=tuple(points),
    )


@given(profiles())
def test_a_plan_reads_what_it_must_and_nothing_it_may_not(profile: Profile) -> None:
    assert lint_profile(profile) == []
    reads = plan_reads(profile)
    declared = {p.addr + k for p in profile.points for k in range(WORDS[p.type])}
    seen: list[int] = []
    for read in reads:
        span = set(range(read.addr, read.addr + read.count))
        assert 1 <= read.count <= profile.max_registers
        assert any(b.first <= min(span) and max(span) <= b.last for b in profile.blocks)
        assert profile.holes_ok or span <= declared
        for i in read.points:
            p = profile.polled()[i]
            assert {p.addr + k for k in range(WORDS[p.type])} <= span
        seen += read.points
        assert sorted(i for r in single_reads(profile, read) for i in r.points) == list(read.points)
    assert sorted(seen) == list(range(len(profile.polled())))
    assert requests_per_poll(profile) == len(reads)


@given(profiles())
def test_no_two_neighbouring_reads_could_be_one(profile: Profile) -> None:
    declared = {p.addr + k for p in profile.points for k in range(WORDS[p.type])}
    for a, b in pairwise(sorted(plan_reads(profile), key=lambda r: r.addr)):
        span = range(a.addr, b.addr + b.count)
        one_block = any(block.first <= span[0] and span[-1] <= block.last for block in profile.blocks)
        first = profile.polled()[min(b.points, key=lambda i: profile.polled()[i].addr)]
        reach = range(a.addr, first.addr + WORDS[first.type])
        fits = len(reach) <= profile.max_registers
        whole = profile.holes_ok or set(reach) <= declared
        assert not (one_block and fits and whole)


@pytest.mark.parametrize(("name", "requests"), REQUESTS.items())
def test_packaged_profiles_take_few_requests(name: str, requests: int) -> None:
    assert requests_per_poll(PROFILES[name]) == requests


def test_scale_factors_are_read_with_their_points() -> None:
    profile = PROFILES["sunspec_battery"]
    reads = plan_reads(profile)
    assert [(r.model, r.addr) for r in reads] == [(713, 0), (802, 0)]  # with the id word, to see that it is the model
    for i, point in enumerate(profile.polled()):
        for p in (point, *([profile.point(point.scale_point)] if point.scale_point else ())):
            assert any(r.covers(p.fc, p.model, p.addr) and i in r.points for r in reads)


def test_a_dsx_profile_takes_none() -> None:
    assert all(requests_per_poll(p) == 0 for p in load_profiles().values() if p.protocol == "dsx")
