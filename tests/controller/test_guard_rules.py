"""The guard, rule by rule, on one small site with true readings; each case once went wrong or easily could."""

from dataclasses import replace

import numpy as np
import pytest
from helpers_control import Bench, Wiring, bench, later

from controller import guard
from controller.frames import Floats, Image, Mode, Orders, Reason
from drivers.points import Quality

WARM = guard.START_CYCLES + 1


@pytest.fixture(scope="module")
def b() -> Bench:
    return bench(Wiring(ramp_w_per_s=10e3, envelope_w=330e3))


def caps(b: Bench, watts: float = 60e3) -> Floats:
    return np.full(b.racks, watts)


def warm(b: Bench, image: Image, cycles: int = WARM) -> tuple[guard.GuardState, Image]:
    """The guard after some quiet cycles of renewing what it found."""
    state = guard.begin(b.plan, image.now_s - 1.0)
    for _ in range(cycles):
        found = image.value[b.plan.agent_slot["cap_w"]]
        _, state = guard.guard(b.plan, image, b.proposal(np.where(np.isfinite(found), found, np.nan)), state)
        image = later(image, 1.0)
    return state, image


def quiet(b: Bench, watts: float = 60e3, share: float = 0.9) -> Image:
    """Every rack under a cap of `watts`, drawing `share` of it."""
    return b.image(b.values(share * caps(b, watts), caps(b, watts)))


def ask(b: Bench, image: Image, state: guard.GuardState, watts: float, mode: Mode = Mode.LIVE) -> Orders:
    return guard.guard(b.plan, image, b.proposal(caps(b, watts), mode=mode), state)[0]


def test_a_raise_is_paced_and_the_reason_said(b: Bench) -> None:
    state, image = warm(b, quiet(b))
    orders = ask(b, image, state, 80e3)
    assert orders.cap_w.sum() == pytest.approx(4 * 60e3 + 10e3)
    assert (orders.reason == Reason.PACE).all()


@pytest.mark.parametrize("mode", [Mode.HOLD, Mode.LIVE])
def test_what_was_forbidden_for_long_is_not_made_up_for_in_one_step(b: Bench, mode: Mode) -> None:
    """A minute in HOLD, or blind, earns no raise beyond the ramp of the cycle in which it ends."""
    state, image = warm(b, quiet(b))
    blind = [] if mode == Mode.HOLD else [("u0", "power_w"), ("u1", "power_w"), ("p0a", "power_w"), ("p0b", "power_w")]
    dark = b.image(image.value.copy(), bad=blind)
    for _ in range(60):
        dark, image = (replace(x, now_s=image.now_s + 1.0) for x in (dark, image))
        orders, state = guard.guard(b.plan, dark, b.proposal(caps(b, 80e3), mode=mode), state)
        if mode == Mode.LIVE:
            break
    held_w = orders.cap_w.sum()
    orders = ask(b, later(image, 1.0), state, 80e3)
    assert orders.cap_w.sum() <= held_w + 10e3 + 1.0


def test_leaving_shadow_begins_at_the_caps_found(b: Bench) -> None:
    """In SHADOW nothing was sent: the caps shown there hold nowhere."""
    state, image = warm(b, quiet(b))
    for _ in range(30):
        image = later(image, 1.0)
        _, state = guard.guard(b.plan, image, b.proposal(caps(b, 80e3), mode=Mode.SHADOW), state)
    orders = ask(b, later(image, 1.0), state, 80e3)
    assert orders.cap_w.sum() <= 4 * 60e3 + 10e3 + 1.0


@pytest.mark.parametrize("cycles", [1, 2, WARM + 4])
@pytest.mark.parametrize("found_w", [45e3, 75e3])
def test_an_agent_heard_late_keeps_the_cap_it_has(b: Bench, cycles: int, found_w: float) -> None:
    """The broker answers after the first cycle, or much later: no shedding to the safe cap and no raise to it."""
    value = b.values(0.9 * caps(b, found_w), caps(b, found_w))
    silent = value.copy()
    agents = [(r.id, p) for r in b.site.racks for p in ("power_w", "cap_w")]
    for key in agents:
        silent[b.slots[key]] = np.nan
    dark = b.image(silent, charge_w=caps(b, 80e3), bad=agents, quality=Quality.NEVER)
    state, dark = warm(b, dark, cycles)
    image = b.image(value, now_s=dark.now_s)
    orders = guard.guard(b.plan, image, b.proposal(np.full(b.racks, np.nan)), state)[0]
    assert orders.cap_w == pytest.approx(caps(b, found_w))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_unknown_caps_never_get_out(b: Bench, bad: float) -> None:
    state, image = warm(b, quiet(b))
    proposal = b.proposal(caps(b, bad), safe_w=caps(b, bad), envelope_w=bad)
    orders = guard.guard(b.plan, image, proposal, state)[0]
    assert orders.cap_w == pytest.approx(caps(b))
    assert (orders.safe_cap_w >= b.plan.floor_w).all()
    assert (orders.safe_cap_w <= b.plan.max_w).all()
    if not bad > 0:
        assert orders.safe_cap_w == pytest.approx(b.plan.floor_w)


def test_an_unknown_charge_counts_as_nameplate() -> None:
    full = bench(Wiring(envelope_w=1e6, ups=((0, 280e3, "W"), (0, 280e3, "W")), cords=((0, 1),) * 7))
    image = quiet(full, 70e3)
    state, image = warm(full, image)
    charge_w = image.charge_w.copy()
    charge_w[0] = np.nan
    wanted = caps(full, 80e3)
    wanted[0] = 70e3
    orders = guard.guard(full.plan, replace(image, charge_w=charge_w), full.proposal(wanted), state)[0]
    counted = np.maximum(orders.cap_w, np.where(np.isnan(charge_w), full.plan.max_w, charge_w))
    assert full.plan.rows.dot(counted)[full.site.node_index["u0"]] <= 280e3 + 1.0


def test_an_ammeter_that_reads_low_makes_no_room() -> None:
    narrow = bench(Wiring(ups=((0, 200.0, "A"), (0, 200.0, "A")), cords=((0, 1),) * 4))
    value = narrow.values(caps(narrow, 50e3), caps(narrow, 50e3))
    for k in "123":
        value[narrow.slots["u0", f"current_l{k}_a"]] /= 20.0
    state, image = warm(narrow, narrow.image(value))
    orders = ask(narrow, image, state, 80e3)
    carry_w = np.sqrt(3.0) * 400.0 * 1.05 * 200.0
    assert narrow.plan.rows.dot(orders.cap_w)[narrow.site.node_index["u0"]] <= carry_w


@pytest.mark.parametrize("shown", [0.0, -1e6])
def test_a_feed_meter_stuck_low_does_not_widen_the_envelope(b: Bench, shown: float) -> None:
    """The meter's nought would mean that the site's other load is minus its racks."""
    state, image = warm(b, quiet(b))
    for _ in range(60):
        value = image.value.copy()
        value[b.slots["feed0", "power_w"]] = shown
        image = b.image(value, now_s=image.now_s + 1.0)
        orders, state = guard.guard(b.plan, image, b.proposal(caps(b, 80e3)), state)
    cold_w = b.plan.cooling_w_per_w * b.racks * 54e3  # in the coefficients, and not in this site's meter
    assert b.plan.rows.dot(orders.cap_w)[b.plan.envelope_row] <= b.site.control.envelope_w + cold_w + 1.0


def test_racks_gone_blind_are_not_taken_for_other_load_gone() -> None:
    """Two racks idle under high caps go dark: what they may yet draw must not be handed to the others."""
    wide = bench(Wiring(envelope_w=340e3))
    power, cap = np.array([40e3, 40e3, 60e3, 60e3]), np.array([80e3, 80e3, 60e3, 60e3])
    value = wide.values(power, cap, {"feed0": 30e3})
    state, image = warm(wide, wide.image(value))
    dark = [(x, "power_w") for x in ("r0", "r1", "p0a", "p0b", "p1a", "p1b")]
    for _ in range(40):
        image = wide.image(value.copy(), bad=dark, charge_w=cap, now_s=image.now_s + 1.0)
        orders, state = guard.guard(wide.plan, image, wide.proposal(caps(wide, 80e3)), state)
    losses_too = wide.plan.rows.coeff - wide.plan.cooling_w_per_w * (wide.plan.rows.of_entry == wide.plan.envelope_row)
    racks_w = replace(wide.plan.rows, coeff=losses_too).dot(np.maximum(orders.cap_w, cap))[wide.plan.envelope_row]
    assert racks_w + 30e3 <= 340e3 + 1.0


def test_blindness_at_start_cuts_nothing(b: Bench) -> None:
    racks = [(x, "power_w") for i in range(4) for x in (f"r{i}", f"p{i}a", f"p{i}b")]
    image = b.image(b.values(caps(b, 50e3), caps(b)), bad=racks, charge_w=caps(b))
    state, image = warm(b, image, 3 * WARM)
    orders = ask(b, image, state, 60e3)
    assert orders.cap_w == pytest.approx(caps(b))


def test_nothing_rises_before_the_feeds_have_been_read() -> None:
    """Children may account for a node, yet the site's other load is known from the feeds alone."""
    wide = bench(Wiring(envelope_w=330e3))
    image = wide.image(wide.values(caps(wide, 50e3), caps(wide)), bad=[("feed0", "power_w")])
    state, image = warm(wide, image)
    orders = ask(wide, image, state, 80e3)
    assert orders.cap_w == pytest.approx(caps(wide))
    assert (orders.reason == Reason.STALE).all()


def test_a_gang_waits_for_its_slowest_and_every_member_says_so() -> None:
    """Rack 2 has not confirmed its reduction: rack 0 has no room yet, and rack 1 of its gang waits with it."""
    ups = ((0, 62e3, "W"), (0, 62e3, "W"), (0, 90e3, "W"), (0, 90e3, "W"))
    gang = bench(Wiring(ups=ups, cords=((0, 1), (2, 3), (0, 1)), gangs=(0, 0, 1)))
    cap = np.array([60e3, 60e3, 40e3])
    state, image = warm(gang, gang.image(gang.values(0.9 * cap, cap)))
    wanted = np.array([80e3, 80e3, 40e3])
    image = replace(image, charge_w=np.array([60e3, 80e3, 80e3]))
    orders, state = guard.guard(gang.plan, image, gang.proposal(wanted), state)
    assert orders.cap_w == pytest.approx(cap)
    assert (orders.reason[:2] == Reason.ROOM).all()
    image = replace(later(image, 1.0), charge_w=np.array([60e3, 80e3, 40e3]))
    assert guard.guard(gang.plan, image, gang.proposal(wanted), state)[0].cap_w == pytest.approx(wanted)


def test_a_proposal_that_overfills_a_row_is_cut_to_it(b: Bench) -> None:
    state, image = warm(b, quiet(b, 80e3, 0.5))
    image = replace(image, charge_w=caps(b, 80e3))
    for _ in range(30):
        image = later(image, 1.0)
        orders, state = guard.guard(b.plan, image, b.proposal(caps(b, 80e3), envelope_w=300e3), state)
    assert (orders.reason == Reason.GUARD).all()
    assert (orders.cap_w < 80e3).all()
    rest_w = state.room.rest_w[-1]
    assert b.plan.rows.dot(orders.cap_w)[b.plan.envelope_row] + rest_w == pytest.approx(300e3, rel=1e-5)
