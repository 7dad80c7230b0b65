"""The shed ladder: whole gangs, the lowest class first, no rung higher than needed, only under violated rows."""

import numpy as np
import pytest
from helpers_control import Bench, Wiring, bench
from hypothesis import given, settings
from hypothesis import strategies as st

from controller import shed
from controller.frames import Floats, Rows, Shed
from drivers.site.model import Site

SEEDS = st.integers(0, 2**32 - 1)
RACKS = 12


def site(rng: np.random.Generator, last: str) -> Site:
    """Twelve racks, some in gangs, three classes."""
    gangs = tuple(int(g) for g in rng.integers(0, 5, RACKS))
    priority = tuple(int(g) % 3 for g in gangs)
    made = Wiring(cords=((0, 1),) * RACKS, gangs=gangs, priority=priority).site()
    return made.model_copy(update={"control": made.control.model_copy(update={"shed": last})})


def some_rows(rng: np.random.Generator, count: int) -> Rows:
    """Random rows over some of the racks."""
    a = rng.uniform(0.2, 1.1, (count, RACKS)) * (rng.random((count, RACKS)) < 0.6)
    row, rack = np.nonzero(a)
    indptr = np.searchsorted(row, np.arange(count + 1)).astype(np.int64)
    coeff = a[row, rack]
    return Rows(indptr, rack, coeff, row, fixed=coeff, cords=np.zeros((len(row), 2)))


def power_w(b: Bench, codes: np.ndarray) -> Floats:
    """By the definitions: idle, 0.9 of it, 0.05 of it, nothing; else the floor."""
    idle = np.array([r.idle_w for r in b.site.racks])
    return np.choose(codes, [b.plan.floor_w, np.minimum(b.plan.floor_w, idle), 0.9 * idle, 0.05 * idle, 0.0 * idle])


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.sampled_from(["pause", "slow", "down", "off"]))
def test_ladder(seed: int, last: str) -> None:
    rng = np.random.default_rng(seed)
    b = bench(site=site(rng, last))
    rows = some_rows(rng, 4)
    at_floor = rows.dot(b.plan.floor_w)
    room_w = at_floor * rng.uniform(0.1, 1.3, 4)
    out = shed.ladder(b.plan, rows, room_w, b.plan.floor_w, ("a", "b", "c", "d"))
    codes, top = out.codes, shed.RUNGS[last]
    load = rows.dot(power_w(b, codes))
    violated = at_floor > room_w * (1 + 1e-9)
    assert (codes <= top).all()
    assert out.fits == (load <= room_w * (1 + 1e-6) + 1e-6).all()
    if not violated.any():
        assert not codes.any()
        return
    touched = np.isin(b.plan.gang_of, b.plan.gang_of[rows.racks[violated[rows.of_entry]]])
    assert touched[codes > 0].all()
    for gang in np.unique(b.plan.gang_of[codes > 0]):
        assert (codes[b.plan.gang_of == gang] >= Shed.PAUSE).all()
    if not out.fits:
        least = rows.dot(power_w(b, np.where(touched, top, 0)))
        assert (least > room_w).any()
        assert out.said
    assert_minimal(b, rows, room_w, codes, out.fits)


def assert_minimal(b: Bench, rows: Rows, room_w: Floats, codes: np.ndarray, fits: bool) -> None:
    """Nobody is on a rung above the first while somebody who would help is not yet on the one below."""
    worst = int(codes.max())
    if worst <= Shed.PAUSE or not fits:
        return
    below = np.where(codes == worst, worst - 1, codes)
    load = rows.dot(power_w(b, below))
    short = load > room_w * (1 + 1e-9)
    assert short.any()
    for k in np.flatnonzero(short):
        assert (codes[rows.racks[rows.of_entry == k]] >= worst - 1).all()


def test_lower_classes_go_first_and_none_is_shed_for_nothing() -> None:
    """One row: no gang of a better class is shed while a lower class still works, and no pick is needless."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        b = bench(site=site(rng, "pause"))
        rows = some_rows(rng, 1)
        room_w = rows.dot(b.plan.floor_w) * rng.uniform(0.4, 1.0)
        out = shed.ladder(b.plan, rows, room_w, b.plan.floor_w, ("row",))
        under = np.unique(b.plan.gang_of[rows.racks])
        gone = np.unique(b.plan.gang_of[out.codes > 0])
        kept = np.setdiff1d(under, gone)
        if not out.fits:
            continue
        for gang in gone:
            fewer = np.where(b.plan.gang_of == gang, Shed.NONE, out.codes)
            assert (rows.dot(power_w(b, fewer)) > room_w).any()
        if len(gone) and len(kept):
            better = b.plan.gang_class[gone].min()
            later = kept[b.plan.gang_class[kept] > better]
            together = np.where(np.isin(b.plan.gang_of, later), Shed.PAUSE, out.codes)
            swapped = np.where(np.isin(b.plan.gang_of, gone[b.plan.gang_class[gone] == better]), Shed.NONE, together)
            assert not len(later) or (rows.dot(power_w(b, swapped)) > room_w).any()


def test_shed_gangs_come_back_when_they_fit_with_a_margin() -> None:
    b = bench(site=site(np.random.default_rng(5), "down"))
    rows = some_rows(np.random.default_rng(6), 2)
    tight_w = rows.dot(b.plan.floor_w) * 0.8
    codes = shed.ladder(b.plan, rows, tight_w, b.plan.floor_w, ("a", "b")).codes
    assert codes.any()
    assert np.array_equal(shed.release(b.plan, rows, tight_w, b.plan.floor_w, codes, 0.0), codes)
    wide_w = rows.dot(b.plan.floor_w) * 1.04
    assert shed.release(b.plan, rows, wide_w, b.plan.floor_w, codes, 0.05).any()
    assert not shed.release(b.plan, rows, wide_w, b.plan.floor_w, codes, 0.03).any()


def let_go(b: Bench, rows: Rows, room_w: Floats, codes: np.ndarray, margin: float) -> np.ndarray:
    """By the definition: gang by gang, every row summed afresh."""
    codes = codes.copy()
    lean_w = room_w * (1.0 - margin)
    gangs = np.unique(b.plan.gang_of[codes > 0])
    for gang in sorted(gangs.tolist(), key=lambda g: (b.plan.gang_class[g], g)):
        racks = np.flatnonzero((b.plan.gang_of == gang) & (codes > 0))
        tried = codes.copy()
        tried[racks] = Shed.NONE
        touched = np.unique(rows.of_entry[np.isin(rows.racks, racks)])
        over = rows.dot(power_w(b, tried)) > lean_w + 1e-9 * np.maximum(np.abs(lean_w), 1.0)
        if not over[touched].any():
            codes = tried
    return codes


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_who_is_let_go_is_who_fits_when_every_row_is_summed_afresh(seed: int) -> None:
    rng = np.random.default_rng(seed)
    b = bench(site=site(rng, "off"))
    rows = some_rows(rng, 4)
    room_w = rows.dot(b.plan.floor_w) * rng.uniform(0.3, 1.4, 4)
    codes = rng.integers(0, 5, RACKS).astype(np.uint8)
    free = shed.release(b.plan, rows, room_w, b.plan.floor_w, codes, 0.02)
    assert free.tolist() == let_go(b, rows, room_w, codes, 0.02).tolist()


def test_what_was_done_is_said() -> None:
    b = bench(site=site(np.random.default_rng(5), "pause"))
    rows = some_rows(np.random.default_rng(6), 1)
    out = shed.ladder(b.plan, rows, rows.dot(b.plan.floor_w) * 0.01, b.plan.floor_w, ("busway w1",))
    assert not out.fits
    assert out.said[-1] == "busway w1 does not hold even so"
    assert all("paused: floors do not fit busway w1" in x for x in out.said[:-1])
    assert shed.shed_w(b.plan, np.full(RACKS, Shed.OFF, dtype=np.uint8)) == pytest.approx(0.0)
