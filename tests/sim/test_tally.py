"""What many losses amount to, from runs made by hand: a broken promise is never lost in a sum."""

from typing import Any

from sim.lab.tally import summary, table, violations

FINE: dict[str, Any] = {
    "id": "u1",
    "kind": "ups",
    "disobedient": 0.0,
    "secured": True,
    "why": "",
    "trips": {},
    "late": [],
    "hot_racks": 0,
    "back_s": 2.5,
    "over_s": 2.5,
    "trip_used": 0.05,
    "least_trip_s": None,
    "racks_cut": 12,
    "shed": {},
    "work_done": 90.0,
    "work_asked": 100.0,
}


def test_trips_late_limits_and_heat_are_violations() -> None:
    assert violations(FINE) == []
    said = violations(FINE | {"trips": {"u2": 30.0}, "late": ["b1 over its rating"], "hot_racks": 3})
    assert said == ["u2 tripped after 30.00 s", "b1 over its rating", "3 racks shut down by heat"]


def test_only_what_was_called_secured_is_a_broken_promise() -> None:
    tripped = FINE | {"trips": {"u2": 30.0}}
    result = summary([FINE, tripped, tripped | {"secured": False, "id": "u3"}, tripped | {"secured": None}], 0.9)
    assert [b["id"] for b in result["broken"]] == ["u1"]
    assert result["broken_promises"] == 1
    assert result["losses"] == 4
    assert result["secured"] == 2
    assert result["trips"] == 3
    assert any(line.startswith("BROKEN ups u1") for line in table(result))


def test_work_is_held_against_what_was_done_before() -> None:
    result = summary([FINE, FINE | {"kind": "busway", "work_done": 45.0}], 0.9)
    assert result["work_lost_share"] == 0.25
    assert result["kinds"]["ups"]["work_lost_share"] == 0.0
    assert result["kinds"]["busway"]["work_lost_share"] == 0.5
    assert summary([], 0.9)["losses"] == 0
    assert summary([FINE], 0.9, stopped=True)["complete"] is False


def test_the_table_has_a_line_for_each_kind_and_one_for_all() -> None:
    shed = FINE | {"kind": "substation", "secured": False, "why": "floors do not fit", "shed": {"pause": 40, "off": 2}}
    lines = table(summary([FINE, shed], 0.9))
    assert [line.split()[0] for line in lines[:4]] == ["kind", "ups", "substation", "all"]
    assert len({len(line) for line in lines[:4]}) == 1
    assert "floors do not fit" in lines[-1]
