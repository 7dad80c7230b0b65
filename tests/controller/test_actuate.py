"""Orders to messages: lower first, renewed in time, silent when there is nothing to own."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from helpers_control import Bench, Wiring, bench

from controller import actuate, cycle
from controller.frames import Floats, Ints, Mode, Orders, Requests
from drivers.lease import Holder, Lease, Ledger, Shed
from drivers.points import Quality
from drivers.wires import CapCommand, Command


@pytest.fixture(scope="module")
def b() -> Bench:
    return bench(Wiring(cords=((0, 1),) * 8, groups=4))


def orders(b: Bench, cap_w: Floats | float, mode: Mode = Mode.LIVE, safe_w: float = 60e3) -> Orders:
    caps, none = np.full(b.racks, 1.0) * cap_w, np.zeros(b.racks)
    return Orders(caps, np.full(b.racks, safe_w), none.astype(np.uint8), none.astype(np.int64), caps, none > 0.0, mode)


@dataclass
class Desk:
    """A ledger and the state of actuate, called once a second."""

    bench: Bench
    now_s: float = 100.0
    sent: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        plan, control = self.bench.plan, self.bench.site.control
        self.ledger = Ledger(plan.max_w, plan.safe_cap_w.astype(np.int64), epoch=5, ttl_s=control.lease_ttl_s,
                             decay_s=5.0, now_s=self.now_s)  # fmt: skip
        self.state = actuate.begin(plan)

    def send(self, what: Orders, step_s: float = 1.0) -> Sequence[CapCommand]:
        """One cycle's leases, noted by group."""
        self.now_s += step_s
        all_of_them, self.state = actuate.actuate(self.bench.plan, what, self.ledger, self.now_s, self.state)
        commands = [c for c in all_of_them if isinstance(c, CapCommand)]
        assert len(commands) == len(all_of_them) - len(what.setpoints)
        self.sent += [(self.now_s, c.lease.group) for c in commands]
        return commands


def test_groups_with_reductions_go_first(b: Bench) -> None:
    desk = Desk(b)
    desk.send(orders(b, 60e3))
    caps = np.full(b.racks, 61e3)
    caps[[2, 6, 3]] = 50e3  # racks of a group are i, i + 4: g2 loses at both, g3 at one, g0 and g1 rise
    commands = desk.send(orders(b, caps))
    assert [c.lease.group for c in commands][:2] == ["g2", "g3"]
    assert len(commands) == 4


@pytest.mark.parametrize("ttl_s", [3.0, 10.0, 30.0])
@pytest.mark.parametrize("step_s", [1.0, 0.7])
def test_unchanged_leases_are_renewed_within_a_third_of_their_time(ttl_s: float, step_s: float) -> None:
    quiet = bench(Wiring(cords=((0, 1),) * 8, groups=8, ttl_s=ttl_s))
    desk = Desk(quiet)
    for _ in range(100):
        desk.send(orders(quiet, 60e3), step_s)
    for group in {g for _, g in desk.sent}:
        times = np.array([t for t, g in desk.sent if g == group])
        assert np.diff(times).max() <= max(ttl_s / 3.0, 1.0) + step_s
        assert times[-1] >= desk.now_s - ttl_s / 3.0 - step_s
    assert len({g for _, g in desk.sent}) == 8


def test_renewals_are_spread_over_the_seconds(b: Bench) -> None:
    desk = Desk(b)
    for _ in range(30):
        desk.send(orders(b, 60e3))
    per_second = [sum(t == s for t, _ in desk.sent) for s in sorted({t for t, _ in desk.sent})[6:]]
    assert max(per_second) <= 2


def test_what_is_sent_is_whole_watts_and_never_below_the_floor() -> None:
    odd = bench(Wiring(floor_w=40000.5, groups=1))
    (command,) = Desk(odd).send(orders(odd, np.array([40000.5, 40000.9, 59999.9, 80000.0]), safe_w=40000.5))
    assert command.lease.cap_w.tolist() == [40001, 40001, 59999, 80000]
    assert command.lease.safe_cap_w.tolist() == [40001] * 4


def test_a_changed_safe_cap_alone_is_sent_at_once(b: Bench) -> None:
    desk = Desk(b)
    desk.send(orders(b, 60e3))
    assert {c.lease.group for c in desk.send(orders(b, 60e3, safe_w=55e3))} == {"g0", "g1", "g2", "g3"}


def test_epoch_and_rising_sequence_are_in_every_message(b: Bench) -> None:
    desk = Desk(b)
    leases = [c.lease for _ in range(6) for c in desk.send(orders(b, 60e3))]
    assert {x.epoch for x in leases} == {5}
    assert (np.diff([x.seq for x in leases]) > 0).all()


def test_a_shed_racks_cap_is_its_power_there_and_a_changed_rung_goes_out_at_once(b: Bench) -> None:
    desk, rungs = Desk(b), np.zeros(b.racks, dtype=np.uint8)
    desk.send(orders(b, 60e3))
    rungs[1] = Shed.DOWN
    caps = np.full(b.racks, 60e3)
    caps[1] = 1000.3
    shed = replace(orders(b, caps), shed=rungs)
    first = desk.send(shed)[0].lease
    assert first.group == "g1"
    assert first.cap_w.tolist() == [1001, 60000]
    assert first.shed is not None
    assert first.shed.tolist() == [Shed.DOWN, 0]
    assert "g1" not in {c.lease.group for c in desk.send(shed, 0.1)}
    back = {c.lease.group: c.lease for c in desk.send(orders(b, 60e3), 0.1)}
    assert back["g1"].cap_w.tolist() == [60000, 60000]
    assert b"shed" not in back["g1"].encode()


def test_per_gpu_caps_go_out_when_one_changes(b: Bench) -> None:
    desk, gpus = Desk(b), max(r.gpus for r in b.site.racks)
    caps = np.full((b.racks, gpus), 500, dtype=np.int64)
    desk.send(replace(orders(b, 60e3), gpu_cap_w=caps))

    def sent(gpu_cap_w: Ints | None) -> dict[str, Lease]:
        """What goes out beside the renewals of this second, which are those of g2."""
        commands = desk.send(replace(orders(b, 60e3), gpu_cap_w=gpu_cap_w), 0.1)
        return {c.lease.group: c.lease for c in commands if c.lease.group != "g2"}

    assert not sent(caps)
    changed = caps.copy()
    changed[1, 3] = 450
    only = sent(changed)
    assert list(only) == ["g1"]
    desk.state.groups[1].check(only["g1"])
    assert only["g1"].gpu_cap_w is not None
    assert only["g1"].gpu_cap_w[0, 3] == 450
    assert len(sent(None)) == 3
    assert not sent(None)


class CountingWire:
    """A wire that counts what it is given."""

    def __init__(self) -> None:
        self.messages = 0

    def send(self, commands: Sequence[Command]) -> int:
        """Count them."""
        self.messages += len(commands)
        return len(commands)


@pytest.mark.parametrize(("mode", "writes"), [(Mode.SHADOW, False), (Mode.HOLD, True), (Mode.LIVE, True)])
def test_shadow_gives_the_wire_nothing_from_the_first_cycle_on(b: Bench, mode: Mode, writes: bool) -> None:
    wire, state = CountingWire(), cycle.begin(b.plan, 1, 1000.0)
    table = b.inventory.table()
    value = b.values(np.full(b.racks, 70e3), np.full(b.racks, 60e3))
    for second in range(20):
        table.put(np.arange(b.inventory.size), value, Quality.GOOD, 1000.0 + second)
        shot = table.snapshot(1000.0 + second)
        _, commands = cycle.step(b.plan, shot, Requests(mode=mode), state)
        wire.send(commands)
    assert (wire.messages > 0) == writes
    assert state.ledger.seq == wire.messages


def test_off_falls_silent_once_the_safe_caps_are_confirmed(b: Bench) -> None:
    desk, holder = Desk(b), Holder(np.full(b.racks, 70000, dtype=np.int64), 100.0)
    racks = np.arange(b.racks)

    def second(what: Orders) -> int:
        holder.step(desk.now_s)
        beat, epoch, seq, cap_w = (x.astype(np.float64) for x in (holder.beat, holder.epoch, holder.seq, holder.cap_w))
        desk.ledger.confirm(beat, epoch, seq, cap_w, np.full(b.racks, desk.now_s))
        commands = desk.send(what)
        for c in commands:
            holder.accept(c.lease, desk.state.groups[int(c.lease.group[1:])].racks, desk.now_s)
        return len(commands)

    for _ in range(5):
        second(orders(b, 70e3))
    assert (holder.cap_w[racks] == 70000).all()
    counts = [second(replace(orders(b, 60e3), mode=Mode.OFF)) for _ in range(30)]
    assert counts[0] == 4
    assert sum(counts[2:]) == 0
    assert (holder.step(desk.now_s) == 60000).all()
