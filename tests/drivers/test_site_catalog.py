"""The catalog: curves that allocation can use, rows that were really measured, and no credit without a source."""

from itertools import pairwise

import pytest

from drivers.site.catalog import GPUS, MEASURED, TRIP_CURVES, Kind, curve


@pytest.mark.parametrize(("model", "kind"), sorted(MEASURED))
def test_curves_rise_to_one(model: str, kind: Kind) -> None:
    power, throughput = curve(model, kind)
    assert len(power) == len(throughput) >= 4
    assert (power[-1], throughput[-1]) == (1.0, 1.0)
    assert power[0] == 0.25
    assert all(a < b for a, b in pairwise(power))
    assert all(a < b for a, b in pairwise(throughput))
    assert throughput[0] > 0


def test_every_gpu_has_both_curves() -> None:
    assert set(MEASURED) == {(g, k) for g in GPUS for k in ("training", "inference")}


def test_training_is_the_measured_sweep() -> None:
    power, throughput = curve("H100", "training")
    assert power == (0.25, 0.5, 0.625, 0.75, 0.875, 1.0)
    assert throughput == (0.191, 0.6236, 0.7809, 0.8596, 0.9213, 1.0)


def test_inference_uses_the_h200_where_it_was_measured() -> None:
    power, throughput = curve("H200", "inference")
    assert power == pytest.approx((0.25, 0.5, 500 / 700, 1.0))
    assert throughput == (0.2252, 0.608, 0.791, 1.0)


def test_unknown_model() -> None:
    with pytest.raises(KeyError):
        curve("H1000", "training")


def test_gpu_powers_are_in_order() -> None:
    for gpu in GPUS.values():
        assert 0 < gpu.idle_w <= gpu.min_cap_w < gpu.tdp_w
        assert gpu.source


def test_trip_curves_allow_less_time_for_more_load() -> None:
    for name, trip in TRIP_CURVES.items():
        assert trip.source
        for edge in (trip.points, trip.longest):
            assert all(a[0] < b[0] and a[1] > b[1] for a, b in pairwise(edge)), name
            assert all(load > trip.continuous >= 1 and seconds > 0 for load, seconds in edge), name
        assert trip.points or not trip.credit, name
        assert trip.cool_s >= max((seconds for _, seconds in trip.points), default=0.0), name
        assert 0 < trip.derating <= 1


def test_the_lower_edge_lies_below_the_upper() -> None:
    for name, trip in TRIP_CURVES.items():
        upper = dict(trip.longest)
        assert all(seconds <= upper.get(load, seconds) for load, seconds in trip.points), name


def test_a_standards_longest_times_earn_no_credit() -> None:
    for name in ("ul489_standard", "ul489_large_frame", "iec60947_2", "fuse", "transformer_c57_91"):
        assert not TRIP_CURVES[name].credit
        assert not TRIP_CURVES[name].points, "a longest time must not stand as a shortest one"


def test_heat_halves_a_ups_overload() -> None:
    cool, hot = TRIP_CURVES["ups_huawei_2000g"], TRIP_CURVES["ups_huawei_2000g_hot"]
    assert hot.points == tuple((load, seconds / 2) for load, seconds in cool.points)
