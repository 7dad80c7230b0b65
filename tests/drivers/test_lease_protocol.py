"""Holder and Ledger against each other over a network that loses, delays, doubles and reorders, with restarts."""

from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.lease import Holder, Lease, Ledger, Refusal, Report, compile_groups, decode_lease, decode_report

RACKS = 3
NAMEPLATE_W = 40_000
SAFE_W = 10_000
TTL_S, DECAY_S = 10.0, 5.0
GROUP = compile_groups({"h1/r1": range(RACKS)}, [f"k{i}" for i in range(RACKS)])["h1/r1"]


def new_ledger(epoch: int, now_s: float) -> Ledger:
    top = np.full(RACKS, float(NAMEPLATE_W))
    safe = np.full(RACKS, SAFE_W)
    return Ledger(top, safe, epoch=epoch, ttl_s=TTL_S, decay_s=DECAY_S, now_s=now_s)


@dataclass
class World:
    """One rack group, its controller, and every message ever sent, still on its way."""

    now_s: float = 100.0
    boot: int = 1
    leases: list[bytes] = field(default_factory=list)
    reports: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.holder = Holder(np.full(RACKS, SAFE_W), self.now_s, boot=self.boot)
        self.ledger = new_ledger(1, self.now_s)

    def pass_time(self, step_s: float) -> None:
        before = self.holder.cap_in_force_w(self.now_s)
        self.now_s += step_s
        assert (self.holder.step(self.now_s) <= before).all(), "a cap rose by itself"

    def send(self, caps_w: tuple[int, ...], safe_w: int) -> None:
        lease = self.ledger.lease(GROUP, np.array(caps_w), np.full(RACKS, safe_w), self.now_s)
        self.leases.append(lease.encode())

    def deliver_lease(self, back: int) -> None:
        if self.leases:
            lease = decode_lease(self.leases[-1 - back % len(self.leases)])
            taken = self.holder.accept(lease, GROUP.racks, self.now_s) == Refusal.ACCEPTED
            echoed_s = self.holder.start_s + lease.echo - self.holder.first_beat
            assert (self.now_s < echoed_s + TTL_S)[taken].all(), "a delayed message lived"

    def publish(self) -> None:
        self.reports.append(self.holder.report(GROUP, np.zeros(RACKS)).encode())

    def deliver_report(self, back: int) -> None:
        if self.reports:
            r = decode_report(self.reports[-1 - back % len(self.reports)])
            time_s = np.full(RACKS, self.now_s)
            beat, epoch, seq, cap_w = (x.astype(float) for x in (r.beat, r.epoch, r.seq, r.cap_w))
            self.ledger.confirm(beat, epoch, seq, cap_w, time_s)

    def restart_controller(self) -> None:
        self.ledger = new_ledger(self.ledger.epoch + 1, self.now_s)

    def restart_agents(self, which: int) -> None:
        self.boot += 1
        before = self.holder.in_force_w.copy()
        self.holder.restart(np.flatnonzero([which >> i & 1 for i in range(RACKS)]), self.now_s, self.boot)
        assert (self.holder.in_force_w <= before).all(), "a cap rose by a restart"

    def check(self, meter_share: float, fresh: bool) -> None:
        in_force = self.holder.cap_in_force_w(self.now_s)
        charge = self.ledger.charge_w(self.now_s, in_force * meter_share, np.full(RACKS, fresh))
        assert (charge >= in_force - 1e-6).all(), (charge, in_force)


caps = st.tuples(*[st.integers(0, NAMEPLATE_W)] * RACKS)
back = st.one_of(st.just(0), st.integers(0, 40))
action = st.one_of(
    st.tuples(st.just("round"), caps, st.integers(0, SAFE_W)),
    st.tuples(st.just("send"), caps, st.integers(0, SAFE_W)),
    st.tuples(st.just("deliver_lease"), back),
    st.tuples(st.just("publish")),
    st.tuples(st.just("deliver_report"), back),
    st.tuples(st.just("restart_controller")),
    st.tuples(st.just("restart_agents"), st.integers(1, 7)),
)
step = st.tuples(
    st.sampled_from([0.0, 0.1, 0.25, 0.9, 1.0, 1.1, 4.0, 9.0, 11.0]), action, st.floats(0, 1), st.booleans()
)


@settings(max_examples=400, deadline=None)
@given(st.lists(step, min_size=5, max_size=80))
def test_no_cap_in_force_is_ever_above_its_charge(steps: list[tuple[float, tuple[object, ...], float, bool]]) -> None:
    world = World()
    for step_s, (name, *arguments), meter_share, fresh in steps:
        world.pass_time(step_s)
        if name == "round":
            world.publish()
            world.deliver_report(0)
            world.send(*arguments)  # type: ignore[arg-type]  # by the strategy above
            world.deliver_lease(0)
        else:
            getattr(world, str(name))(*arguments)
        world.check(meter_share, fresh)


def lossless_second(world: World, cap_w: int) -> None:
    world.pass_time(1.0)
    world.publish()
    world.deliver_report(0)
    world.send((cap_w,) * RACKS, SAFE_W)
    world.deliver_lease(0)


def charge_of(world: World, measured_w: float = np.nan) -> float:
    measured = np.full(RACKS, measured_w)
    return float(world.ledger.charge_w(world.now_s, measured, np.isfinite(measured))[0])


def test_a_reduction_counts_at_its_old_cap_until_confirmed() -> None:
    world = World()
    for cap_w in (30_000, 30_000, 20_000):
        lossless_second(world, cap_w)
    assert world.holder.in_force_w[0] == 20_000
    assert charge_of(world) == 30_000
    world.pass_time(1.0)
    world.publish()
    world.deliver_report(0)
    assert charge_of(world) == 20_000
    assert charge_of(world, 23_000.0) == 23_000


def test_after_expiry_the_cap_falls_to_the_lower_of_cap_and_safe_cap_each_at_its_own_pace() -> None:
    world = World()
    lossless_second(world, 30_000)
    world.pass_time(TTL_S + 1.0)
    under_way = world.holder.in_force_w.copy()
    assert ((under_way > SAFE_W) & (under_way < 30_000)).all()
    assert len(set(under_way)) == RACKS
    world.pass_time(DECAY_S)
    assert (world.holder.in_force_w == SAFE_W).all()

    low = World()
    lossless_second(low, 4_000)
    low.pass_time(TTL_S + DECAY_S + 1.0)
    assert (low.holder.in_force_w == 4_000).all()


def test_a_silent_rack_counts_its_safe_cap_only_while_a_meter_confirms_it() -> None:
    world = World()
    for _ in range(3):
        lossless_second(world, 30_000)
    world.pass_time(2 * TTL_S + DECAY_S)
    assert charge_of(world) == NAMEPLATE_W
    assert charge_of(world, 9_000.0) == SAFE_W
    assert charge_of(world, 12_000.0) == NAMEPLATE_W


def test_a_rack_never_heard_counts_nameplate_and_a_new_controller_charges_what_it_finds_once_it_is_obeyed() -> None:
    world = World()
    assert charge_of(world, 5_000.0) == NAMEPLATE_W
    for _ in range(3):
        lossless_second(world, 30_000)
    world.restart_controller()
    world.pass_time(1.0)
    world.publish()
    world.deliver_report(0)
    assert charge_of(world, 5_000.0) == NAMEPLATE_W, "a raise of the predecessor may still arrive"
    assert world.ledger.found_w()[0] == 30_000
    lossless_second(world, 30_000)
    lossless_second(world, 30_000)
    assert charge_of(world, 5_000.0) == 30_000


def offer(holder: Holder, epoch: int, seq: int, echo_back: int, now_s: float) -> Refusal:
    lease = Lease(
        GROUP.name, GROUP.roster, epoch, seq, TTL_S, 1.0, holder.beat - echo_back, *[np.full(RACKS, 7_000)] * 2
    )
    return Refusal(holder.accept(lease, GROUP.racks, now_s)[0])


def test_refusals() -> None:
    holder = Holder(np.full(RACKS, SAFE_W), 0.0)
    holder.step(30.0)
    assert offer(holder, 2, 5, 0, 30.0) is Refusal.ACCEPTED
    assert offer(holder, 2, 5, 0, 30.0) is Refusal.SEQUENCE
    assert offer(holder, 1, 9, 0, 30.0) is Refusal.EPOCH
    assert offer(holder, 2, 6, 10, 30.0) is Refusal.ECHO
    assert offer(holder, 2, 6, -1, 30.0) is Refusal.ECHO
    assert offer(holder, 2, 6, 9, 30.0) is Refusal.ACCEPTED
    assert offer(holder, 3, 1, 0, 30.0) is Refusal.ACCEPTED, "a higher epoch starts its own count"
    holder.restart(GROUP.racks, 31.0, boot=2)
    assert offer(holder, 3, 2, 1 << 20, 31.0) is Refusal.ECHO, "meant for the agent before its restart"


def test_more_leases_in_flight_than_the_ring_holds_are_merged_not_forgotten() -> None:
    world = World()
    lossless_second(world, 5_000)
    lossless_second(world, 5_000)
    world.pass_time(1.0)
    world.publish()
    world.deliver_report(0)
    world.send((33_000,) * RACKS, SAFE_W)
    for _ in range(200):
        world.send((6_000,) * RACKS, SAFE_W)
    assert charge_of(world) == 33_000


def test_reports_round_up_and_carry_the_roster() -> None:
    holder = Holder(np.full(RACKS, SAFE_W), 0.0)
    holder.in_force_w[:] = 999.2
    report = holder.report(GROUP, np.full(RACKS, 12.6))
    assert isinstance(report, Report)
    assert report.cap_w.tolist() == [1000] * RACKS
    assert report.power_w.tolist() == [13] * RACKS
    GROUP.check(report)
