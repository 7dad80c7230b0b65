"""Short cuts of the frames against the plain way: sums of rows, fresh values, what is unknown as zero."""

import numpy as np
import pytest
from helpers_control import Bench, Wiring, bench

from controller import pace
from controller.frames import KEPT, fresh_values, zeroed
from drivers.points import PointTable, Quality


@pytest.fixture(scope="module")
def b() -> Bench:
    return bench(Wiring(cords=((0, 1), (1, 0)) * 6, gangs=(0, 0, 1, 1, 2, 3) * 2))


def test_one_row_and_kept_answers_are_those_of_all_rows(b: Bench) -> None:
    rows, rng = b.plan.joint, np.random.default_rng(2)
    caps = [rng.uniform(0.0, 9e4, b.racks) for _ in range(2 * KEPT)]
    for cap_w in caps + caps[::-1] + caps[:1] * 3:
        total_w = rows.dot(cap_w)
        assert [rows.row_dot(k, cap_w) for k in range(len(total_w))] == total_w.tolist()
        assert rows.dot_kept(cap_w).tolist() == total_w.tolist()
    changed = caps[0].copy()
    rows.dot_kept(changed)
    changed[0] += 1.0  # whoever changes what was asked gets another answer
    assert rows.dot_kept(changed).tolist() == rows.dot(changed).tolist()
    with pytest.raises(ValueError, match="read-only"):
        rows.dot_kept(changed)[0] = 0.0
    assert rows.loaded.tolist() == (rows.dot(np.ones(b.racks)) > 0.0).tolist()


@pytest.mark.parametrize("few", [0, 1000])
def test_racks_under_marked_rows_are_the_same_row_by_row_and_at_once(
    b: Bench, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, rng = b.plan.rows, np.random.default_rng(4)
    monkeypatch.setattr(pace, "FEW", few)
    for share in (0.0, 0.1, 0.5, 1.0):
        marked = rng.random(len(b.plan.row_name)) < share
        expected = np.zeros(b.racks, dtype=bool)
        expected[rows.racks[marked[rows.of_entry]]] = True
        assert pace.under(rows, marked, b.racks).tolist() == expected.tolist()


def test_only_what_is_good_is_fresh_and_a_slot_of_minus_one_is_unknown() -> None:
    value = np.array([1.0, 2.0, np.inf, 4.0])
    quality = np.array([Quality.GOOD, Quality.STALE, Quality.GOOD, Quality.NEVER], dtype=np.uint8)
    fresh = fresh_values(value, quality)
    assert np.array_equal(fresh, [1.0, np.nan, np.inf, np.nan, np.nan], equal_nan=True)
    assert np.isnan(fresh[np.array([-1])]).all()
    assert value.tolist() == [1.0, 2.0, np.inf, 4.0]


def test_the_unknown_is_zero_as_numpy_has_it() -> None:
    odd = np.array([1.0, np.nan, np.inf, -np.inf, -0.0])
    assert zeroed(odd).tolist() == np.nan_to_num(odd).tolist()
    assert np.isnan(odd[1])
    known = np.array([1.0, 2.0])
    assert zeroed(known) is known


def test_a_table_ages_point_by_point_whether_all_are_young_or_not() -> None:
    table = PointTable(np.array([2.0, 5.0, 9.0]))
    table.put(slice(None), np.array([1.0, 2.0, np.nan]), Quality.GOOD, np.array([0.0, 0.5, 1.0]))
    for now_s in (1.0, 2.0, 2.1, 5.4, 5.6, 20.0):
        good = [now_s <= 0.0 + 2.0, now_s - 0.5 <= 5.0]
        expected = [Quality.GOOD if g else Quality.STALE for g in good] + [Quality.BAD]
        assert table.snapshot(now_s).quality.tolist() == expected
    table.put(np.array([0]), np.array([np.nan]), np.array([Quality.SUSPECT], dtype=np.uint8), 20.0)
    assert table.quality.tolist() == [Quality.BAD, Quality.GOOD, Quality.BAD]
