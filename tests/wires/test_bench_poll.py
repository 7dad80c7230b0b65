"""The bench of the reader beside pymodbus's client, at a small size: its figures are all there and add up."""

import pytest

from sim.lab.bench import poll

KEYS = [
    "direct_connections",
    "direct_done_per_s",
    "direct_missed",
    "direct_core_share",
    "direct_us_per_poll",
    "direct_latency_ms_p50",
    "direct_latency_ms_p99",
    "pymodbus_missed",
    "pymodbus_us_per_poll",
    "ratio_pymodbus",
    "gateway_devices",
    "gateway_missed",
    "gateway_core_share",
    "gateway_latency_ms_p99",
]


def test_every_figure_is_there_and_they_belong_together() -> None:
    figures = poll.bench_poll(lambda _: None, devices=70, seconds=2)
    assert list(figures) == KEYS
    assert figures["direct_connections"] == figures["gateway_devices"] == 70
    done = figures["direct_done_per_s"]
    assert done == pytest.approx(70, rel=0.2)
    assert figures["direct_core_share"] == pytest.approx(done * figures["direct_us_per_poll"] / 1e6)
    assert figures["ratio_pymodbus"] == pytest.approx(figures["pymodbus_us_per_poll"] / figures["direct_us_per_poll"])
    assert 0 < figures["direct_latency_ms_p50"] <= figures["direct_latency_ms_p99"]


def test_too_few_open_files_are_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll, "raise_fd_limit", lambda _: 1024)
    with pytest.raises(poll.BenchError, match=r"10700 files must be open and this system allows 1024.*--devices 824"):
        poll.bench_poll(lambda _: None)
