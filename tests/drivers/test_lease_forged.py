"""What a forged or replayed message can do to a lease: little, and not for long."""

import numpy as np

from drivers.lease import Holder, Lease, Ledger, Refusal, compile_groups

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
