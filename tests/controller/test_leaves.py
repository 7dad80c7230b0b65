"""Leaf gpu: asked GPU by GPU the question has the same answer, and GPUs never get more than their rack together."""

from dataclasses import dataclass

import numpy as np
import pytest
from helpers_control import Wiring, bench
from helpers_leaves import LeafRows, bounds, coefficients, collect, gang_of_rack, leaf_inputs, leaf_rows, topology
from hypothesis import given, settings
from hypothesis import strategies as st

from controller import leaves, problem
from controller.frames import Floats, Ints
from controller.kernels.fill import FillResult, fill
from controller.leaves import Leaves
from controller.plan import Plan
from drivers.lease import MAX_GPU_W, NO_GPU
from drivers.site.model import Job


@dataclass(frozen=True)
class Case:
    """A small site, its leaves, and bounds of its racks."""

    plan: Plan
    structure: problem.Structure
    over: LeafRows
    room_w: Floats
    bound: problem.Bounds
    random: np.random.Generator

    @property
    def leaves(self) -> Leaves:
        """As the product has them."""
        return self.over.leaves

    def serve_racks(self) -> problem.Served:
        """The answer of the racks."""
        return problem.serve(self.plan, self.structure, self.plan.joint, self.room_w, self.bound)

    def serve_gpus(self, wish: Floats) -> FillResult:
        """The answer of the GPUs."""
        b, rows = self.bound, self.plan.joint
        bound = bounds(self.leaves, b.floor_w, b.demand_w, b.most_w, wish)
        curves, curve_of = problem.rack_curves(self.plan)
        inputs = leaf_inputs(self.over, rows, self.room_w, bound, b.ceiling_w, curve_of)
        return fill(topology(self.over, rows, curves), inputs)

    def wish(self) -> Floats:
        """Wishes of a few percent, mean 1 in each rack."""
        raw = self.random.uniform(0.85, 1.15, len(self.leaves.rack))
        mean: Floats = np.bincount(self.leaves.rack, raw) / self.leaves.gpus
        wish: Floats = raw / mean[self.leaves.rack]
        return wish


def case(seed: int) -> Case:
    """Racks of several sizes on one or two UPS too small for them, some in training gangs, some of lower class."""
    random = np.random.default_rng(seed)
    racks = int(random.integers(2, 9))
    ups = tuple((0, float(random.choice([150e3, 250e3, 400e3])), "VA") for _ in range(2))
    gangs = tuple(int(x) for x in random.integers(0, 3, racks))
    priority = tuple(g % 2 for g in gangs)
    cords = tuple((int(a), int(1 - a)) for a in random.integers(0, 2, racks))
    site = Wiring(ups=ups, cords=cords, gangs=gangs, priority=priority).site()
    sized = tuple(r.model_copy(update={"gpus": int(random.choice([8, 64, 72]))}) for r in site.racks)
    jobs = tuple(Job(id=j.id, kind="inference" if j.id == "job0" else "training") for j in site.jobs)
    control = site.control.model_copy(update={"leaf": "gpu"})
    plan = bench(site=site.model_copy(update={"racks": sized, "jobs": jobs, "control": control})).plan
    structure = problem.compile_structure(plan)
    demand_w = random.uniform(45e3, plan.max_w)
    ceiling_w = np.where(random.random(racks) < 0.3, random.uniform(50e3, 80e3, racks), np.inf)
    nothing = np.full(racks, -1, dtype=np.int64)
    return Case(
        plan,
        structure,
        leaf_rows(plan, plan.joint, structure.kept),
        plan.joint.dot(plan.floor_w) + random.uniform(0.1, 1.0) * plan.joint.dot(plan.max_w - plan.floor_w),
        problem.Bounds(plan.floor_w, demand_w, plan.max_w, ceiling_w, nothing, plan.other_w),
        random,
    )


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_rows_over_leaves_carry_what_they_carry_over_racks(seed: int) -> None:
    c = case(seed)
    own_w = c.random.uniform(0.0, 900.0, len(c.leaves.rack))
    rack_w = c.plan.other_w + np.bincount(c.leaves.rack, own_w)
    coeff = coefficients(c.over, c.plan.joint)
    row = np.repeat(np.arange(len(c.over.row_start) - 1), np.diff(c.over.row_start))
    load_w = np.bincount(row, coeff * own_w[c.over.row_leaf])
    rows = c.plan.joint
    shared = len(c.structure.kept)
    assert load_w[:shared] == pytest.approx((rows.dot(rack_w) - rows.dot(c.plan.other_w))[c.structure.kept], rel=1e-9)
    assert load_w[shared:] == pytest.approx(rack_w - c.plan.other_w, rel=1e-9)


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_gpus_get_together_what_their_rack_would_each_by_its_wish(seed: int) -> None:
    c = case(seed)
    racks, wish = c.serve_racks(), c.wish()
    gpus = c.serve_gpus(wish)
    cap_w, gpu_cap_w = collect(c.leaves, gpus.power_w, c.plan.other_w)
    assert cap_w == pytest.approx(racks.power_w, rel=1e-6)
    share = gpus.power_w / (cap_w - c.plan.other_w)[c.leaves.rack] * c.leaves.gpus[c.leaves.rack]
    assert share == pytest.approx(wish, rel=1e-6)
    lowest = gang_of_rack(c.over, gpus.level)
    assert gpus.level[lowest] == pytest.approx(racks.level, abs=1e-6)
    split_w = leaves.split(c.leaves, racks.power_w, wish)
    carried = (gpu_cap_w.max(axis=1) < MAX_GPU_W - 1)[:, None] & c.leaves.there
    assert np.abs(split_w - gpu_cap_w)[carried].max(initial=0) <= 2  # whole W, each rounded in its own way
    assert (gpu_cap_w >= 0).sum() == len(c.leaves.rack)
    assert (gpu_cap_w[~c.leaves.there] == NO_GPU).all()


def test_a_training_jobs_gpus_are_one_gang_and_any_other_is_its_own() -> None:
    site = Wiring(cords=((0, 1),) * 3, gangs=(0, 1, 1)).site()
    jobs = (Job(id="job0", kind="inference"), Job(id="job1", kind="training"))
    plan = bench(site=site.model_copy(update={"jobs": jobs})).plan
    structure = problem.compile_structure(plan)
    grown = leaf_rows(plan, plan.joint, structure.kept)
    assert len(grown.gang_class) == 64 + 1
    assert len(np.unique(grown.gang_of[:64])) == 64
    assert len(np.unique(grown.gang_of[64:])) == 1
    level = np.arange(65.0)
    level[grown.gang_of[5]] = -1.0
    assert gang_of_rack(grown, level)[0] == grown.gang_of[5]


def test_a_rack_that_is_counted_at_a_constant_stays_there_gpu_by_gpu() -> None:
    c = case(3)
    floor_w, most_w = c.bound.floor_w.copy(), c.bound.most_w.copy()
    for rack, constant_w in ((0, 55e3), (1, 4e3)):  # at work, and below what its GPUs do not draw
        floor_w[rack] = most_w[rack] = constant_w
    bound = bounds(c.leaves, floor_w, c.bound.demand_w, most_w, c.wish())
    curves, curve_of = problem.rack_curves(c.plan)
    inputs = leaf_inputs(c.over, c.plan.joint, c.room_w, bound, c.bound.ceiling_w, curve_of)
    power_w = fill(topology(c.over, c.plan.joint, curves), inputs).power_w
    cap_w, _ = collect(c.leaves, power_w, bound.other_w)
    assert cap_w[:2] == pytest.approx([55e3, 4e3], rel=1e-6)


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=100, deadline=None)
def test_caps_of_gpus_make_their_racks_cap_and_no_more(seed: int, again: bool) -> None:
    c = case(seed)
    grown, random = c.leaves, c.random
    gpu_cap_w = np.where(grown.there, random.integers(0, 1500, grown.there.shape), NO_GPU)
    cap_w = random.uniform(0.0, c.plan.max_w * 1.2) * random.choice([1.0, 1.0, 0.1])
    before = None
    if again:
        before = leaves.rescale(grown, gpu_cap_w, cap_w * random.uniform(0.99, 1.01))
    fitted = leaves.rescale(grown, gpu_cap_w, cap_w, before)
    assert fitted.dtype == np.int64
    assert ((fitted == NO_GPU) == ~grown.there).all()
    used_w = np.where(grown.there, fitted, 0).sum(axis=1)
    budget_w = np.maximum(cap_w - grown.other_w, 0.0)
    assert (used_w <= budget_w).all()
    if not again:
        carried = fitted.max(axis=1) < MAX_GPU_W - 1  # else no message has room for what is left
        assert (used_w >= budget_w - 2.0)[carried].all()
        twice = leaves.rescale(grown, fitted, cap_w)
        assert np.abs(twice - fitted)[carried].max(initial=0) <= 1
    able = budget_w >= (grown.least_w + 1) * grown.gpus
    assert (fitted >= grown.least_w[:, None])[able][grown.there[able]].all()


def test_small_changes_of_gpus_caps_are_not_sent() -> None:
    c = case(1)
    cap_w = np.full(len(c.plan.max_w), 60e3)
    gpu_cap_w = np.where(c.leaves.there, 600, NO_GPU)
    first = leaves.rescale(c.leaves, gpu_cap_w, cap_w)
    bumped = np.where(c.leaves.there, gpu_cap_w + (np.arange(gpu_cap_w.shape[1]) % 2), NO_GPU)
    assert (leaves.rescale(c.leaves, bumped, cap_w, first) == first).all()
    lower = leaves.rescale(c.leaves, bumped, cap_w - 100.0, first)
    assert (np.where(c.leaves.there, lower, 0).sum(axis=1) <= cap_w - 100.0 - c.leaves.other_w).all()


def speeds(cap_w: Floats, want_w: Floats) -> Floats:
    """A work law of our own: the square root of the power a GPU is given of what it wants."""
    result: Floats = np.sqrt(np.minimum(cap_w / want_w, 1.0))
    return result


@given(st.integers(0, 2**32), st.floats(0.7, 0.97))
@settings(max_examples=30, deadline=None)
def test_wishes_learn_which_gpu_holds_its_gang_back(seed: int, tightness: float) -> None:
    c = case(seed)
    grown = c.leaves
    true = np.clip(c.random.normal(1.0, 0.04, len(grown.rack)), 0.88, 1.12)
    share_w = (c.plan.max_w - grown.other_w) / grown.gpus
    want_w = true * share_w[grown.rack]
    rack_cap_w = np.floor(grown.other_w + tightness * np.bincount(grown.rack, want_w))
    wish, caps = leaves.start_wishes(grown), np.full(grown.there.shape, NO_GPU)

    def slowest(given: Ints) -> Floats:
        least = np.full(len(grown.gpus), np.inf)
        np.minimum.at(least, grown.rack, speeds(given[grown.there].astype(np.float64), want_w))
        return least

    equal = leaves.rescale(grown, np.where(grown.there, 1000, NO_GPU), rack_cap_w)
    for _ in range(150):
        in_force = equal if caps.max() < 0 else caps
        given_w = in_force[grown.there].astype(np.float64)
        own = speeds(given_w, want_w)
        pace = slowest(in_force)[grown.rack]
        run_w, wait_w = np.minimum(given_w, want_w), np.minimum(given_w, 0.55 * want_w)
        gpu_w = np.full(grown.there.shape, np.nan)
        gpu_w[grown.there] = np.rint(wait_w + (run_w - wait_w) * pace / own)
        wish = leaves.wishes(grown, gpu_w, caps, rack_cap_w, wish)
        bound = bounds(grown, c.plan.floor_w, rack_cap_w, c.plan.max_w, wish)
        _, asked = collect(grown, bound.demand_w, grown.other_w)
        caps = leaves.rescale(grown, asked, rack_cap_w)
    mean_true = (np.bincount(grown.rack, true) / grown.gpus)[grown.rack]
    assert wish == pytest.approx(true / mean_true, abs=0.02)
    assert (slowest(caps) >= slowest(equal) - 1e-3).all()
    assert slowest(caps) == pytest.approx(np.sqrt(tightness), abs=0.01)


def test_a_rack_that_pauses_or_is_silent_teaches_nothing() -> None:
    c = case(2)
    wish = c.wish()
    gpu_w = np.where(c.leaves.there, 300.0, np.nan)
    caps = np.where(c.leaves.there, 600, NO_GPU)
    assert leaves.wishes(c.leaves, gpu_w, caps, c.plan.max_w, wish) == pytest.approx(wish, rel=1e-12)
    unknown = np.where(c.leaves.there, 590.0, np.nan)
    unknown[:, 0] = np.nan
    assert leaves.wishes(c.leaves, unknown, caps, c.plan.max_w, wish) == pytest.approx(wish, rel=1e-12)
