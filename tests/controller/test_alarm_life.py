"""The life of one alarm and of a board of them: delays exact, nothing lost, nothing doubled."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.alarms import Board, Change, Finding, State, catalog, machine
from controller.alarms.board import FEW
from controller.alarms.catalog import Kind, parse
from controller.alarms.keep import as_csv, dump, restore
from controller.alarms.machine import STANDING, Record

KINDS = {
    "cause": Kind(
        code="cause", rank=0, priority="critical", cause="c", consequence="q", response="r", latched=True,
        suppresses=("effect",),
    ),
    "effect": Kind(
        code="effect", rank=1, priority="high", cause="c", consequence="q", response="r", on_delay_s=3, off_delay_s=5,
        deadband=0.1,
    ),
}  # fmt: skip
START_MS = 1_767_225_600_000


class Desk:
    """A board, a second at a time."""

    def __init__(self, board: Board | None = None) -> None:
        self.board = board or Board(KINDS)
        self.t = 0
        self.changes: list[Change] = []

    @property
    def now_ms(self) -> int:
        return START_MS + 1000 * self.t

    def step(self, *found: Finding, blind: bool = False, seconds: int = 1) -> None:
        for _ in range(seconds):
            self.t += 1
            self.changes += self.board.step(1000.0 + self.t, self.now_ms, found, blind)

    def act(self, act: str, alarm: str, **more: Any) -> list[Change]:
        given = {"act": act, "alarm": alarm, "by": "ann", "why": "drill", "at_ms": self.now_ms} | more
        got = self.board.act(given, 1000.0 + self.t, self.now_ms)
        self.changes += got
        return got

    def state(self, name: str) -> State:
        code, _, element = name.partition("/")
        record = self.board.records[code].get(element)
        return record.state if record else State.NORMAL


def effect(*names: str, excess: float = 1.0, because: str = "") -> Finding:
    return Finding(
        "effect", f"{len(names)} effects", dict.fromkeys(names, excess), {n: f"effect at {n}" for n in names},
        dict.fromkeys(names, because) if because else {},
    )  # fmt: skip


def cause(*names: str) -> Finding:
    return Finding("cause", "lost", dict.fromkeys(names, 1.0), {n: f"{n} lost" for n in names})


def test_the_shipped_list_says_of_each_alarm_what_it_means_and_what_to_do() -> None:
    assert len(catalog()) >= 20
    for code, kind in catalog().items():
        assert len(kind.response) > 20, code
        assert len(kind.consequence) > 20, code
    grave = sum(k.priority == "critical" for k in catalog().values())
    assert grave <= len(catalog()) // 4  # everything critical is nothing critical


def test_a_list_that_suppresses_what_there_is_not_is_refused() -> None:
    text = "a: {priority: low, cause: c, consequence: q, response: r, suppresses: [b]}"
    with pytest.raises(ValueError, match="a suppresses b"):
        parse(text)


def test_the_ways_of_an_alarm() -> None:
    d = Desk()
    d.step(effect("x"), seconds=3)
    assert d.state("effect/x") == State.NORMAL
    d.step(effect("x"))
    assert d.state("effect/x") == State.UNACKED
    d.act("ack", "effect/x")
    assert d.state("effect/x") == State.ACKED
    d.step(seconds=5)
    assert d.state("effect/x") == State.ACKED
    d.step()
    assert d.state("effect/x") == State.NORMAL
    d.step(effect("x"), seconds=4)
    d.step(seconds=6)
    assert d.state("effect/x") == State.RETURNED
    d.act("ack", "effect/x")
    assert d.state("effect/x") == State.NORMAL
    assert [(c.was, c.now) for c in d.changes] == [
        ("normal", "unacknowledged"), ("unacknowledged", "acknowledged"), ("acknowledged", "normal"),
        ("normal", "unacknowledged"), ("unacknowledged", "returned"), ("returned", "normal"),
    ]  # fmt: skip


def test_a_dip_shorter_than_the_off_delay_and_within_the_deadband_is_none() -> None:
    d = Desk()
    d.step(effect("x"), seconds=4)
    for _ in range(20):
        d.step(seconds=4)
        d.step(effect("x"))
        d.step(effect("x", excess=-0.05), seconds=10)
    assert len(d.changes) == 1
    d.step(effect("x", excess=-0.2), seconds=6)
    assert d.state("effect/x") == State.RETURNED


def test_near_a_limit_is_not_beyond_it() -> None:
    d = Desk()
    d.step(effect("x", excess=-0.05), seconds=60)
    assert d.changes == []


def test_a_latched_alarm_waits_for_an_acknowledgement_after_its_condition_is_gone() -> None:
    d = Desk()
    d.step(cause("x"))
    d.act("ack", "cause/x")
    d.step(seconds=100)
    assert d.state("cause/x") == State.RETURNED
    d.act("ack", "cause/x")
    assert d.state("cause/x") == State.NORMAL


def test_the_shelf_ends_by_itself_and_what_stands_must_be_seen_again() -> None:
    d = Desk()
    d.step(effect("x"), seconds=4)
    d.act("ack", "effect/x")
    d.act("shelve", "effect/x", for_s=10.0)
    d.step(effect("x"), seconds=9)
    assert d.state("effect/x") == State.SHELVED
    d.step(effect("x"))
    assert d.state("effect/x") == State.UNACKED
    d.act("shelve", "effect/x", for_s=3600.0)
    d.act("unshelve", "effect/x")
    assert d.state("effect/x") == State.UNACKED


def test_what_is_out_of_service_says_nothing_until_it_is_back() -> None:
    d = Desk()
    d.act("out_of_service", "effect/x")
    d.step(effect("x"), seconds=100)
    assert d.state("effect/x") == State.OUT
    assert d.board.listed() == []
    assert [r.id for r in d.board.aside()] == ["effect/x"]
    d.act("in_service", "effect/x")
    assert d.state("effect/x") == State.UNACKED


def test_only_so_many_can_be_set_aside() -> None:
    d = Desk()
    for i in range(200):
        d.act("shelve", f"effect/{i}", for_s=3600.0)
    with pytest.raises(ValueError, match="200 alarms are set aside"):
        d.act("out_of_service", "effect/one more")
    with pytest.raises(ValueError, match="not one"):
        d.act("shelve", "nonsense/x", for_s=60.0)


def test_many_elements_are_one_alarm_with_the_same_delay() -> None:
    d = Desk()
    names = [f"x{i}" for i in range(3400)]
    d.step(effect(*names), seconds=3)
    assert d.changes == []
    d.step(effect(*names))
    assert [c.id for c in d.changes] == ["effect/site"]
    assert d.board.lines() == ["3400 effects"]
    d.step(seconds=6)
    assert d.state("effect/site") == State.RETURNED


def test_a_roll_up_that_was_seen_and_grows_must_be_seen_again() -> None:
    d = Desk()
    few, many = [f"x{i}" for i in range(6)], [f"x{i}" for i in range(40)]
    d.step(effect(*few), seconds=4)
    d.act("ack", "effect/site")
    d.step(effect(*few, "another"), seconds=10)
    assert d.state("effect/site") == State.ACKED
    d.step(effect(*many))
    assert d.state("effect/site") == State.UNACKED
    assert [(c.was, c.now) for c in d.changes][-1] == ("acknowledged", "unacknowledged")


def test_a_roll_up_that_has_returned_does_not_stand_again_for_an_element_with_an_alarm_of_its_own() -> None:
    d = Desk()
    d.step(cause(*(f"x{i}" for i in range(9))))
    d.step()
    d.step(cause("a"), seconds=10)
    assert d.state("cause/site") == State.RETURNED
    assert [c.id for c in d.changes if c.now == State.UNACKED] == ["cause/site", "cause/a"]


def test_those_that_wait_join_the_roll_up_with_their_time() -> None:
    d = Desk()
    d.step(effect("a", "b"), seconds=2)
    d.step(effect("a", "b", "c", "d"), seconds=2)
    assert [c.id for c in d.changes] == ["effect/site"]


def test_a_cause_suppresses_what_it_explains_and_only_that() -> None:
    d = Desk()
    for _ in range(20):
        explained = effect("below", because="feed")
        found = Finding("effect", "2 effects", {**explained.excess, "elsewhere": 1.0}, because=explained.because)
        d.step(cause("feed"), found)
    assert [c.id for c in d.changes] == ["cause/feed", "effect/elsewhere"]
    assert d.board.metrics(1000.0 + d.t, d.now_ms)["suppressed"] == 1
    d.step(effect("below", because="feed"), seconds=5)
    assert d.state("effect/below") == State.UNACKED  # the cause is gone, it is not


def test_a_consequence_that_was_raised_first_gives_way_to_its_cause() -> None:
    d = Desk()
    d.step(effect("below"), seconds=4)
    assert d.board.listed()[0].first_out
    d.step(effect("below", because="feed"), cause("feed"))
    assert [r.id for r in d.board.listed()] == ["cause/feed"]
    assert d.board.listed()[0].first_out
    assert d.state("effect/below") == State.SUPPRESSED


def test_first_out_is_the_cause_of_those_that_come_together_and_one_only() -> None:
    d = Desk()
    d.step(effect("a"), seconds=3)
    d.step(effect("a"), cause("feed"))
    assert [r.id for r in d.board.listed() if r.first_out] == ["cause/feed"]
    d.step(effect("a"), cause("feed", "other"), seconds=3)
    assert [r.id for r in d.board.listed()] == ["cause/feed", "cause/other", "effect/a"]


def test_a_cause_is_first_whatever_small_thing_came_before_it() -> None:
    d = Desk()
    d.step(effect("elsewhere"), seconds=30)
    d.step(effect("elsewhere"), cause("feed"), seconds=5)
    assert [r.id for r in d.board.listed()] == ["cause/feed", "effect/elsewhere"]
    assert d.board.listed()[0].first_out
    d.step(effect("elsewhere"), cause("feed", "another"), seconds=5)
    assert [r.id for r in d.board.listed() if r.first_out] == ["cause/feed", "effect/elsewhere"]  # two bursts
    d.act("ack", "all")
    d.step(effect("elsewhere"), seconds=10)
    (first, *_) = d.board.listed()
    assert (first.id, first.state) == ("effect/elsewhere", State.ACKED)


def test_what_is_not_seen_is_not_gone() -> None:
    d = Desk()
    d.step(effect("x"), seconds=4)
    d.step(seconds=60, blind=True)
    assert d.state("effect/x") == State.UNACKED


def test_an_acknowledgement_read_again_later_acknowledges_nothing_new() -> None:
    d = Desk()
    d.step(effect("x"), seconds=4)
    old_ms = d.now_ms
    d.act("ack", "all")
    d.step(seconds=6)
    d.step(effect("x"), seconds=4)
    assert d.act("ack", "all", at_ms=old_ms) == []
    assert d.state("effect/x") == State.UNACKED


def test_a_restart_forgets_nothing() -> None:
    d = Desk()
    d.step(effect("a", "b", "c"), cause("feed"), seconds=4)
    d.act("ack", "effect/a")
    d.act("shelve", "effect/b", for_s=50.0)
    d.act("out_of_service", "effect/d")
    board = Board(KINDS)
    restore(board, dump(d.board), 5.0, d.now_ms)
    assert dump(board) == dump(d.board)
    board.step(6.0, d.now_ms + 1000, [], blind=True)
    assert board.records["effect"]["a"].state == State.ACKED
    assert board.records["effect"]["b"].state == State.SHELVED
    assert board.records["cause"]["feed"].first_out
    board.step(56.0, d.now_ms + 51_000, [effect("b")], blind=True)
    assert [r.id for r in board.listed() if r.state == State.UNACKED] == ["cause/feed", "effect/b", "effect/c"]


@pytest.mark.parametrize("entry", [{}, {"code": "gone"}, {"code": "effect", "element": "x"}, {"code": [], "x": 1}, 7])
def test_a_file_of_alarms_that_makes_no_sense_costs_that_entry(entry: object) -> None:
    good = Desk()
    good.step(cause("feed"))
    board = Board(KINDS)
    restore(board, {"alarms": [entry, *dump(good.board)["alarms"]]}, 1.0, START_MS)
    assert [r.id for r in board.listed()] == ["cause/feed"]


def test_flood_and_chattering_are_counted() -> None:
    d = Desk()
    for i in range(6):
        d.step(cause("x"))
        d.step()
        d.act("ack", "all")
        d.step(cause(f"y{i}"), seconds=5)
    metrics = d.board.metrics(1000.0 + d.t, d.now_ms)
    assert metrics["per_10_min"] == metrics["total"] > 10
    assert metrics["flood"]
    assert metrics["chattering"] == ["cause/x"]
    d.step(seconds=601)
    assert d.board.metrics(1000.0 + d.t, d.now_ms)["per_10_min"] == 0
    assert not d.board.metrics(1000.0 + d.t, d.now_ms)["flood"]


def test_an_export_is_no_formula() -> None:
    assert as_csv([{"id": "a/b", "text": "=1+1"}]).splitlines() == ["id,text", "a/b,'=1+1"]
    assert as_csv([]) == "id\n"


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["stand", "gone", "near", "ack", "shelve", "unshelve", "out", "in", "blind"]), st.integers(1, 9)
    ),
    max_size=40,
)


@given(MOVES, st.booleans())
def test_one_alarm_is_never_lost_never_doubled_and_its_delays_are_exact(
    moves: list[tuple[str, int]], latched: bool
) -> None:
    """Against a plain account of the condition: when it has stood, or been gone, for the delay; no second else."""
    kind = KINDS["effect"].model_copy(update={"latched": latched})
    record = Record(kind, "x")
    active = unseen = False
    stood = gone = now = 0
    for move, seconds in moves:
        acting = move in ("ack", "shelve", "unshelve", "out", "in")
        if move == "ack" and not record.out and not record.shelved_until_s:
            unseen = False
            machine.acknowledge(record, "ann")
        elif move == "shelve":
            machine.shelve(record, "ann", now + 7.0, 0)
        elif move == "unshelve":
            unseen = _back(unseen, active, latched, record.shelved_until_s > 0)
            machine.unshelve(record)
        elif move == "out":
            machine.out_of_service(record, "ann")
        elif move == "in":
            unseen = _back(unseen, active, latched, record.out)
            machine.in_service(record)
        for _ in range(0 if acting else seconds):
            now += 1
            if record.shelved_until_s and now >= record.shelved_until_s:
                unseen = _back(unseen, active, latched, True)
            stands = move == "stand" or (move == "near" and active)
            assert machine.present(record, {"stand": 0.01, "near": -0.05}.get(move)) == stands
            machine.advance(record, now, now, stands, blind=move == "blind")
            stood = stood + 1 if stands else 0
            gone = gone + 1 if active and not stands and move != "blind" else gone if move == "blind" else 0
            if not active and stood > kind.on_delay_s:
                active, unseen = True, True
            elif active and gone > kind.off_delay_s:
                active, gone, unseen = False, 0, unseen or latched
            assert record.active == active
        assert (record.process in (State.UNACKED, State.RETURNED)) == unseen
        assert (record.state in STANDING) == ((active or unseen) and not record.out and not record.shelved_until_s)


def _back(unseen: bool, active: bool, latched: bool, was_aside: bool) -> bool:
    if not was_aside:
        return unseen
    return True if active else unseen and latched


@given(st.lists(st.tuples(st.sets(st.integers(0, 7)), st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_every_element_that_stands_long_enough_is_covered_by_exactly_one_alarm(
    seconds: list[tuple[set[int], bool, bool]],
) -> None:
    d = Desk()
    stood = dict.fromkeys(range(8), 0)
    for names, ack, explained in seconds:
        found = effect(*(f"x{i}" for i in sorted(names)), because="feed") if names else None
        d.step(*([found] if found else []), *([cause("feed")] if explained else []))
        if ack:
            d.act("ack", "all")
        suppressing = any(r.active for r in d.board.records["cause"].values())
        for i in stood:
            stood[i] = stood[i] + 1 if i in names and not suppressing else 0
        records = d.board.records["effect"]
        assert sum(r.element != "site" for r in records.values()) <= FEW
        for i in (i for i, s in stood.items() if s > KINDS["effect"].on_delay_s):
            own = f"x{i}" in records and records[f"x{i}"].active
            rolled = "site" in records and records["site"].active and f"x{i}" not in records
            assert own != rolled, (i, {k: r.state for k, r in records.items()})
        together = records.get("site")
        if together is not None and together.active:
            loose = [i for i in range(8) if stood[i] and f"x{i}" not in records]
            assert loose or together.off_s is not None or suppressing, "a roll-up of nothing"
        ids = [r.id for r in d.board.listed()]
        assert len(ids) == len(set(ids))
