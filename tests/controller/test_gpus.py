"""Caps of racks become caps of GPUs: by what their use tells, and only where the leaf is the GPU."""

import numpy as np
import pytest
from helpers_control import Bench, Wiring, bench

from controller import gpus
from controller.frames import Floats, Image, Mode, Orders
from drivers.lease import NO_GPU

CAP_W, OTHER_W, GPUS = 60e3, 20e3, 64


@pytest.fixture(scope="module")
def b() -> Bench:
    site = Wiring().site()
    fewer = (*site.racks[:-1], site.racks[-1].model_copy(update={"gpus": 48}))
    control = site.control.model_copy(update={"leaf": "gpu"})
    return bench(site=site.model_copy(update={"control": control, "racks": fewer}))


def orders(b: Bench, cap_w: float = CAP_W, mode: Mode = Mode.LIVE) -> Orders:
    caps, none = np.full(b.racks, cap_w), np.zeros(b.racks)
    return Orders(caps, caps, none.astype(np.uint8), none.astype(np.int64), caps, none > 0.0, mode)


def image(b: Bench, gpu_w: Floats, bad: int = -1) -> Image:
    """What the agents report: power of each GPU [R, GPUs]; that of GPU `bad` of the first rack is stale."""
    caps = np.full(b.racks, CAP_W)
    value = b.values(caps, caps)
    there = b.plan.gpu_slot >= 0
    value[b.plan.gpu_slot[there]] = gpu_w[there]
    return b.image(value, bad=[(b.site.racks[0].id, f"gpu{bad}_w")] if bad >= 0 else [])


def test_slots_are_those_of_each_racks_own_gpus(b: Bench) -> None:
    slab = b.inventory.slab("gpu")
    assert slab is not None
    assert b.plan.gpu_slot.shape == (4, GPUS)
    assert b.plan.gpu_slot[1, 3] == slab.slots("gpu3_w")[1]
    assert (b.plan.gpu_slot[:3] >= 0).all()
    assert (b.plan.gpu_slot[3, 48:] == -1).all()


def test_caps_are_equal_at_first_and_then_follow_use(b: Bench) -> None:
    state = gpus.begin(b.plan)
    drawn = np.full((4, GPUS), 620.0)
    drawn[0, 5] = 560.0
    first, state = gpus.divide(b.plan, image(b, drawn), orders(b), state)
    assert first.gpu_cap_w is not None
    assert first.gpu_cap_w[0].tolist() == [(CAP_W - OTHER_W) / GPUS] * GPUS
    assert (first.gpu_cap_w[3, 48:] == NO_GPU).all()
    for _ in range(3):
        last, state = gpus.divide(b.plan, image(b, drawn), orders(b), state)
    assert last.gpu_cap_w is not None
    assert last.gpu_cap_w[0, 5] < 0.95 * first.gpu_cap_w[0, 5]
    assert (np.delete(last.gpu_cap_w[0], 5) >= first.gpu_cap_w[0, 5]).all()
    assert last.gpu_cap_w[0].sum() + OTHER_W == CAP_W
    assert (last.gpu_cap_w[1:] == first.gpu_cap_w[1:]).all()


def test_a_rack_with_a_stale_reading_keeps_its_division(b: Bench) -> None:
    state = gpus.begin(b.plan)
    drawn = np.full((4, GPUS), 620.0)
    drawn[0, 5] = 560.0
    first, state = gpus.divide(b.plan, image(b, drawn, bad=9), orders(b), state)
    again, state = gpus.divide(b.plan, image(b, drawn, bad=9), orders(b), state)
    assert again.gpu_cap_w is not None
    assert first.gpu_cap_w is not None
    assert (again.gpu_cap_w == first.gpu_cap_w).all()


def test_a_lower_cap_of_the_rack_lowers_its_gpus_at_once(b: Bench) -> None:
    state = gpus.begin(b.plan)
    drawn = np.full((4, GPUS), 620.0)
    _, state = gpus.divide(b.plan, image(b, drawn), orders(b), state)
    lower, state = gpus.divide(b.plan, image(b, drawn), orders(b, 50e3), state)
    assert lower.gpu_cap_w is not None
    assert np.where(lower.gpu_cap_w >= 0, lower.gpu_cap_w, 0).sum(axis=1) == pytest.approx(50e3 - OTHER_W)


def test_nothing_is_divided_in_shadow_or_where_the_leaf_is_the_rack(b: Bench) -> None:
    state = gpus.begin(b.plan)
    drawn = np.full((4, GPUS), 620.0)
    shadow, after = gpus.divide(b.plan, image(b, drawn), orders(b, mode=Mode.SHADOW), state)
    assert shadow.gpu_cap_w is None
    assert after is state
    plain = bench(Wiring())
    assert plain.plan.gpu_slot.shape == (4, 0)
    assert gpus.begin(plain.plan) is None
    asked = orders(plain)
    assert gpus.divide(plain.plan, image(plain, np.empty((4, 0))), asked, None) == (asked, None)
