"""What a forged or replayed message can do to a lease: little, and not for long."""

import numpy as np

from drivers.lease import NO_GPU, Holder, Lease, Ledger, Refusal, Shed, compile_groups

TTL_S, MAX_W, SAFE_W = 10.0, 80_000, 60_000
GROUP = compile_groups({"g": [0, 1]}, ["r1", "r2"])["g"]
BOOT = 5


def ledger() -> Ledger:
    return Ledger(np.full(2, float(MAX_W)), np.full(2, SAFE_W), epoch=3, ttl_s=TTL_S, decay_s=5.0, now_s=0.0)


def hear(book: Ledger, beat: int, at_s: float) -> None:
    one = np.ones(2)
    book.confirm(beat * one, 0.0 * one, 0.0 * one, SAFE_W * one, at_s * one)


def test_a_forged_heartbeat_far_ahead_changes_nothing() -> None:
    book, first = ledger(), BOOT << 20
    for s in range(1, 30):
        hear(book, first + s, float(s))
        if s == 10:
            hear(book, first + 500_000, 10.5)
        assert (book.beat == first + s).all()
        assert (book.heard_s == s).all()


def test_beats_far_ahead_that_stay_are_believed_after_a_ttl() -> None:
    book, first = ledger(), BOOT << 20
    hear(book, first + 5, 1.0)
    for s in range(2, 12):
        hear(book, first + 500_000 + s, float(s))
        assert (book.beat == first + 5).all()
    hear(book, first + 500_012, 12.0)
    assert (book.beat == first + 500_012).all()
    hear(book, first + 6, 13.0)
    assert (book.beat == first + 500_012).all()


def test_no_message_lifts_a_cap_above_nameplate_or_a_safe_cap_above_the_built_in_one() -> None:
    agents = Holder(np.full(2, SAFE_W), 0.0, max_w=np.full(2, MAX_W), boot=BOOT)
    absurd = np.full(2, 9_999_999)
    forged = Lease("g", GROUP.roster, 1000, 1, TTL_S, 5.0, agents.beat.copy(), absurd, absurd)
    assert (agents.accept(forged, GROUP.racks, 0.5) == Refusal.ACCEPTED).all()
    assert (agents.step(1.0) == MAX_W).all()
    assert (agents.step(TTL_S + 10.0) == SAFE_W).all()


def test_no_message_sheds_a_rack_further_than_the_site_allows() -> None:
    agents = Holder(np.full(2, SAFE_W), 0.0, boot=BOOT, last_rung=Shed.SLOW)
    nothing = np.zeros(2, dtype=np.int64)
    forged = Lease("g", GROUP.roster, 1000, 1, TTL_S, 5.0, agents.beat.copy(), nothing, nothing, np.array([4, 1]))
    agents.accept(forged, GROUP.racks, 0.5)
    assert agents.shed.tolist() == [Shed.SLOW, Shed.PAUSE]


def test_a_delayed_or_replayed_lease_neither_sheds_nor_brings_back() -> None:
    agents = Holder(np.full(2, SAFE_W), 0.0, max_w=np.full(2, MAX_W), boot=BOOT, gpus=2)
    caps, rungs, gpus = np.full(2, 70_000), np.array([1, 0]), np.full((2, 2), 500)

    def lease(epoch: int, seq: int, echo_back: int, shed: bool) -> Lease:
        parts = (rungs, None) if shed else (None, gpus)
        return Lease("g", GROUP.roster, epoch, seq, TTL_S, 5.0, agents.beat - echo_back, caps, caps, *parts)

    assert (agents.accept(lease(3, 7, 0, shed=True), GROUP.racks, 0.5) == Refusal.ACCEPTED).all()
    agents.step(40.0)
    for old in (lease(3, 8, 20, shed=False), lease(3, 7, 0, shed=False), lease(2, 9, 0, shed=False)):
        assert (agents.accept(old, GROUP.racks, 40.0) != Refusal.ACCEPTED).all()
        assert agents.shed.tolist() == [1, 0]
        assert (agents.gpu_cap_w == NO_GPU).all()
    assert (agents.accept(lease(3, 9, 0, shed=False), GROUP.racks, 40.0) == Refusal.ACCEPTED).all()
    assert agents.shed.tolist() == [0, 0]
    assert (agents.gpu_cap_w == 500).all()
    assert (agents.accept(lease(3, 8, 0, shed=True), GROUP.racks, 40.0) == Refusal.SEQUENCE).all()
    assert agents.shed.tolist() == [0, 0]
