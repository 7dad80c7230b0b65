"""The guard on random small sites: whatever is proposed and measured, what it must never do.

Every check has its own arithmetic: limits in closed form, trust by walking the tree, loads by the bench's walk.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from helpers_control import PF, VOLT_V, Bench, Wiring, bench
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from controller import guard, guard_room
from controller.frames import Floats, Image, Mode, Orders, Proposal, Reason
from drivers.points import Quality

RAMP_W = 30e3
ABSURD = (np.nan, np.inf, -np.inf, -1e9, 0.0, 1e12, 1e-9, 1.0)
few = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True)
class Walk:
    """A site, the loads at its nodes that no cap moves, and what drives the random cycles."""

    wiring: Wiring
    other_w: dict[str, float]
    unbalance: float
    seed: int
    blind: float  # part of the points that is not good after the first cycles
    cooling: bool = True
    steps: int = 14

    @cached_property
    def bench(self) -> Bench:
        """The site compiled; without cooling its envelope row has electrical losses only."""
        b = bench(self.wiring)
        if self.cooling:
            return b
        rows, env = b.plan.rows, b.plan.envelope_row
        coeff = rows.coeff - b.plan.cooling_w_per_w * (rows.of_entry == env)
        plain = replace(rows, coeff=coeff, fixed=rows.fixed - (rows.coeff - coeff))
        return replace(b, plan=replace(b.plan, rows=plain, cooling_w_per_w=0.0))


@dataclass(frozen=True)
class Cycle:
    """One cycle of a walk: what the guard saw and did."""

    walk: Walk
    image: Image
    proposal: Proposal
    before_w: Floats
    orders: Orders
    index: int
    dt_s: float


@st.composite
def walks(draw: st.DrawFn) -> Walk:
    """Two to eight racks on two to four UPS of one or two feeds, in any unit, some behind busways."""
    units = st.one_of(
        st.tuples(st.just(0), st.floats(50e3, 500e3), st.sampled_from(["VA", "W"])),
        st.tuples(st.just(1), st.floats(100.0, 800.0), st.just("A")),
    )
    ups = draw(st.lists(units, min_size=2, max_size=4))
    racks = draw(st.integers(2, 8))
    pick = st.lists(st.integers(0, len(ups) - 1), min_size=racks, max_size=racks)
    one, two = draw(pick), draw(pick)
    wiring = Wiring(
        ups=tuple(ups),
        cords=tuple((a, b if b != a else (a + 1) % len(ups)) for a, b in zip(one, two, strict=True)),
        share_a=tuple(draw(st.lists(st.sampled_from([0.0, 0.3, 0.5, 1.0]), min_size=racks, max_size=racks))),
        behind_busway=frozenset(draw(st.sets(st.integers(0, racks - 1)))),
        gangs=tuple(draw(st.lists(st.integers(0, 2), min_size=racks, max_size=racks))),
        envelope_w=draw(st.floats(45e3, 110e3)) * racks,
        ramp_w_per_s=draw(st.sampled_from([RAMP_W, 1e9])),
        loop_lpm=draw(st.sampled_from([20.0 * racks, 3000.0])),
    )
    return Walk(
        wiring=wiring,
        other_w={"u0": draw(st.sampled_from([0.0, 20e3])), "feed0": 5e3} if ups[0][0] == 0 else {"u0": 1e3},
        unbalance=draw(st.floats(1.0, 1.05)),
        seed=draw(st.integers(0, 2**32 - 1)),
        blind=draw(st.sampled_from([0.0, 0.02, 0.1])),
    )


def cycles(walk: Walk, absurd: float = 0.0) -> Iterator[Cycle]:
    """Run the guard; agents take what is ordered. `absurd` is the part of the points that shows nonsense."""
    b, rng = walk.bench, np.random.default_rng(walk.seed)
    plan, n = b.plan, b.racks
    cap_w = rng.uniform(plan.floor_w, plan.max_w)
    state, now_s = guard.begin(plan, 1000.0), 1000.0
    wanted_w, mode = cap_w, Mode.LIVE
    names = list(b.slots)
    for index in range(walk.steps):
        dt_s = float(rng.choice([1.0, 1.0, 2.5]))
        now_s += dt_s
        value = b.values(np.minimum(rng.uniform(0.4, 1.02, n) * plan.max_w, 1.02 * cap_w), cap_w, walk.other_w,
                         unbalance=walk.unbalance)  # fmt: skip
        noisy = index >= 2  # in the first cycles every device answers
        for at in np.flatnonzero(rng.random(len(value)) < absurd * noisy):
            value[at] = rng.choice(ABSURD)
        bad = [names[i] for i in np.flatnonzero(rng.random(len(names)) < walk.blind * noisy)]
        image = b.image(value, bad=bad, quality=Quality(int(rng.integers(1, 4))), now_s=now_s, cycle=index)
        charge_w = np.where(rng.random(n) < 0.3, rng.uniform(cap_w, plan.max_w * 1.05), image.charge_w)
        image = replace(image, charge_w=np.where(absurd and rng.random(n) < 0.1, rng.choice(ABSURD, n), charge_w))
        if rng.random() < 0.5:
            wanted_w = rng.uniform(-0.2, 1.3, n) * plan.max_w if rng.random() < 0.7 else plan.max_w.copy()
            wanted_w[rng.random(n) < 0.1] = rng.choice([np.nan, np.inf, -np.inf])
            mode = Mode(rng.choice([Mode.LIVE, Mode.LIVE, Mode.LIVE, Mode.HOLD, Mode.OFF]))
        proposal = b.proposal(wanted_w.copy(), mode=mode)
        before_w = cap_w
        orders, state = guard.guard(plan, image, proposal, state)
        yield Cycle(walk, image, proposal, before_w, orders, index, dt_s)
        cap_w = orders.cap_w


def within_device(c: Cycle) -> None:
    plan = c.walk.bench.plan
    for caps in (c.orders.cap_w, c.orders.safe_cap_w):
        assert np.isfinite(caps).all()
        shed = np.zeros(len(caps)) if c.orders.shed is None else c.orders.shed
        assert (caps >= np.where(shed > 0, 0.0, plan.floor_w)).all()
        assert (caps <= plan.max_w + 1e-6).all()


def rises_only_on_good_data(c: Cycle) -> None:
    rises = np.flatnonzero(c.orders.cap_w > c.before_w + 1e-6)
    for rack in map(int, rises):
        assert trusted(c.walk.bench, c.image, rack), f"rack {rack}"


def hold_and_off_never_raise(c: Cycle) -> None:
    if c.proposal.mode in (Mode.HOLD, Mode.OFF):
        assert (c.orders.cap_w <= c.before_w + 1e-6).all()


def start_never_raises(c: Cycle) -> None:
    if c.index < 4:
        assert (c.orders.cap_w <= c.before_w + 1e-6).all()


def no_row_overfilled_by_a_raise(c: Cycle) -> None:
    plan, room_w = c.walk.bench.plan, room(c.walk, c.image)
    before, after = (plan.rows.dot(np.maximum(c.image.charge_w, x)) for x in (c.before_w, c.orders.cap_w))
    held = before <= room_w
    assert (after <= np.maximum(room_w, before) * (1.0 + 1e-6) + 1.0)[held].all()


def no_order_overfills_a_row(c: Cycle) -> None:
    if c.index >= 5:
        plan = c.walk.bench.plan
        most = np.maximum(room(c.walk, c.image), plan.rows.dot(plan.floor_w))
        assert (plan.rows.dot(c.orders.cap_w) <= most * (1.0 + 2e-6) + 2.0).all()


def a_raise_kept_back_says_why(c: Cycle) -> None:
    plan, known = c.walk.bench.plan, np.isfinite(c.proposal.cap_w)
    short = known & (c.orders.cap_w < np.clip(c.proposal.cap_w, plan.floor_w, plan.max_w) - 1.0)
    assert (c.orders.reason != Reason.FREE)[short].all()


CHECKS: tuple[Callable[[Cycle], None], ...] = (
    within_device,
    rises_only_on_good_data,
    hold_and_off_never_raise,
    start_never_raises,
    no_row_overfilled_by_a_raise,
    no_order_overfills_a_row,
    a_raise_kept_back_says_why,
)
UNDER_NONSENSE = CHECKS[:4]


def trusted(b: Bench, image: Image, rack: int) -> bool:
    """May this rack rise, by the words of CONTROL.md? The agreement with the parent's balance counts as fresh."""

    def good(device: str, point: str = "power_w") -> bool:
        at = b.slots[device, point]
        return bool(image.quality[at] == Quality.GOOD and np.isfinite(image.value[at]))

    def node(name: str) -> bool:
        children = [n.id for n in b.site.nodes if n.parent == name]
        return good(name) or (bool(children) and all(node(x) for x in children))

    r = b.site.racks[rack]
    agent_speaks = image.quality[b.slots[r.id, "power_w"]] == Quality.GOOD
    measured = (good(r.pdu_a) and good(r.pdu_b)) or good(r.id)
    above = [x for pdu in (r.pdu_a, r.pdu_b) for x in b.site.ancestors(pdu)[1:]]
    return bool(agent_speaks) and measured and all(node(x) for x in above)


def room(walk: Walk, image: Image) -> Floats:
    """Continuous rating of each row less the load no cap moves, in closed form [K, W]."""
    b, control = walk.bench, walk.bench.site.control
    limit_w = []
    for n in b.site.nodes:
        if n.rating_unit == "A":
            limit_w.append(np.sqrt(3.0) * VOLT_V * n.rating * PF / walk.unbalance)
        else:
            limit_w.append(n.rating * (PF if n.rating_unit == "VA" else 1.0))
    other = b.node_w(np.zeros(b.racks), walk.other_w)
    left = [w - other[n.id] for w, n in zip(limit_w, b.site.nodes, strict=True)]
    site = b.node_w(np.zeros(b.racks), walk.other_w)
    feeds = sum(site[n.id] for n in b.site.nodes if not n.parent)
    heat = [c.capacity_w for c in b.site.cdus]
    cp = b.plan.loop_cp_w[0]
    loops = [x.flow_lpm * (x.return_max_c - x.supply_c) * cp for x in b.site.loops]
    return np.array([*left, *heat, *loops, control.envelope_w - feeds])


@given(walks())
@few
def test_no_rule_is_broken_on_readings_that_are_true(walk: Walk) -> None:
    # the bench's site draws no cooling power: its envelope coefficient must not claim any
    walk = replace(walk, cooling=False)
    for c in cycles(walk):
        for check in CHECKS:
            check(c)


@given(walks())
@few
def test_no_rule_is_broken_on_readings_that_are_nonsense(walk: Walk) -> None:
    for c in cycles(walk, absurd=0.05):
        for check in UNDER_NONSENSE:
            check(c)
        if c.index >= 5:
            nothing_above_nameplate(c)


def nothing_above_nameplate(c: Cycle) -> None:
    """No meter, however wrong, makes room beyond what a node can carry at unity power factor and 105 % voltage."""
    plan = c.walk.bench.plan
    carry = [
        n.rating * (np.sqrt(3.0) * VOLT_V * 1.05 if n.rating_unit == "A" else 1.0) for n in c.walk.bench.site.nodes
    ]
    most = np.maximum(np.array(carry), plan.rows.dot(plan.floor_w)[plan.node_row])
    assert (plan.rows.dot(c.orders.cap_w)[plan.node_row] <= most * (1.0 + 1e-5) + 2.0).all()


@given(walks())
@few
def test_the_sum_of_caps_rises_within_the_ramp(walk: Walk) -> None:
    allowed = None
    credit = False
    for c in cycles(walk):
        risen = c.orders.cap_w.sum() - c.before_w.sum()
        ramp = walk.bench.site.control.ramp_up_w_per_s
        allowed = c.before_w.sum() if allowed is None else allowed + ramp * c.dt_s
        assert c.orders.cap_w.sum() <= max(allowed, c.before_w.sum()) + 1.0
        if not credit:  # what waited for confirmed reductions elsewhere may follow at once; nothing else may
            assert risen <= ramp * c.dt_s + 1.0
        credit = bool((c.orders.reason == Reason.ROOM).any())


@given(walks())
@settings(few, max_examples=15)
def test_equal_inputs_give_equal_orders(walk: Walk) -> None:
    def once() -> bytes:
        return b"".join(c.orders.cap_w.tobytes() + c.orders.reason.tobytes() for c in cycles(walk, absurd=0.02))

    assert once() == once()


def blind_trust(plan: object, image: Image) -> np.ndarray:
    return np.ones(len(image.charge_w), dtype=bool)


def no_cut(*args: Any) -> Floats:
    _, cap_w, *_ = args
    return np.asarray(cap_w)


def all_fits(*args: Any) -> Floats:
    return np.ones(len(args[-1]))


def no_rating(plan: object, image: Image, meter_w: Floats, used: Floats) -> Floats:
    return np.full(len(meter_w), 1e12)


def any_mode(real: Callable[..., object]) -> Callable[..., object]:
    def broken(plan: object, image: Image, proposal: Proposal, last: guard.GuardState) -> object:
        return real(plan, image, replace(proposal, mode=Mode.LIVE), last)

    return broken


BROKEN = {
    "trusts every meter": (guard, "may_rise", blind_trust),
    "lets a proposal overfill a row": (guard, "_fit", no_cut),
    "forgets what racks may still draw": (guard, "_share", all_fits),
    "ignores the mode": (guard, "guard", any_mode(guard.guard)),
    "knows no rating": (guard_room, "_rating", no_rating),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_guard_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*BROKEN[name])
    cords = ((0, 1), (1, 2), (2, 0), (0, 1), (1, 2), (2, 0))
    wiring = Wiring(ups=((0, 140e3, "VA"),) * 3, cords=cords, envelope_w=420e3, gangs=(0, 0, 1, 1, 2, 2))
    walks_ = (Walk(wiring, {"u0": 1e3}, 1.0, seed, 0.05, cooling=False) for seed in range(40))
    assert any(breaks(check, c) for walk in walks_ for c in cycles(walk) for check in CHECKS)


def breaks(check: Callable[[Cycle], None], c: Cycle) -> bool:
    try:
        check(c)
    except AssertionError:
        return True
    return False
