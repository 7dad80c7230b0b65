"""The MQTT bench at a small size: it measures what it says, and nothing is lost or wrong."""

from sim.lab.bench.mqtt import bench_mqtt


def test_a_small_run_loses_nothing() -> None:
    said: list[str] = []
    results = bench_mqtt(said.append, racks=130, seconds=2, per_s=2000, brokers={"nats-server": "nats"})
    assert set(results) == {"nats-server"}
    for figures in results.values():
        assert figures["racks"] == 130
        assert figures["bms_lost"] == figures["bms_wrong"] == 0
        assert 0 < figures["caps_core_share"] < 1
        assert 0 < figures["bms_core_share"] < 1
        assert 0 < figures["caps_latency_ms_p50"] <= figures["caps_latency_ms_p99"]
        assert 1000 < figures["bms_msgs_per_s"] < 2100
