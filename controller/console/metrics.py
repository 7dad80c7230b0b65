"""/metrics: the newest cycle for Prometheus, read when it is scraped."""

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from controller.console.desk import Desk
from controller.console.doors import TheDesk, Viewer
from controller.console.routes_session import errors
from controller.console.routes_view import stale

router = APIRouter(tags=["health"])
KIND = "text/plain; version=0.0.4; charset=utf-8"
FIGURES = (  # metric, what it is, key of the frame, factor
    ("headroom_envelope_watts", "Envelope in force at the utility meters", "envelope_w", 1.0),
    ("headroom_site_load_watts", "Load at the utility meters, pessimistic", "load_w", 1.0),
    ("headroom_racks_watts", "Power of all racks", "racks_w", 1.0),
    ("headroom_other_watts", "Load that no cap reaches", "other_w", 1.0),
    ("headroom_caps_watts", "Sum of all caps", "caps_w", 1.0),
    ("headroom_demand_watts", "What the racks would draw uncapped", "demand_w", 1.0),
    ("headroom_racks", "Racks of the site", "racks", 1.0),
    ("headroom_racks_capped", "Racks capped below what they want", "racks_capped", 1.0),
    ("headroom_racks_known", "Racks whose power is known, fresh and good", "racks_known", 1.0),
    ("headroom_wires", "Wires of the site", "wires", 1.0),
    ("headroom_wires_down", "Wires that are down", "wires_down", 1.0),
    ("headroom_points_per_second", "Points read a second", "points_per_s", 1.0),
    ("headroom_cycle_seconds", "Time the last cycle took", "step_ms", 1e-3),
    ("headroom_cycle_jitter_seconds", "How far the last cycle began from its time", "jitter_ms", 1e-3),
    ("headroom_cycle_jitter_p99_seconds", "The same, 99th percentile of ten minutes", "jitter_ms_p99", 1e-3),
)
COUNTS = (
    ("headroom_cycles", "Cycles since the controller started", "cycle"),
    ("headroom_late_cycles", "Cycles that began late or were left out", "late_cycles"),
    ("headroom_failed_cycles", "Cycles that failed", "failed_cycles"),
)


class Newest:
    """A collector of prometheus-client over the newest picture."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def collect(self) -> Iterator[Metric]:
        """Every metric of this moment; of the site none before the first cycle."""
        desk, head = self._desk, self._desk.link.head
        yield GaugeMetricFamily("headroom_up", "A controller runs and its last cycle is fresh", not stale(desk))
        yield GaugeMetricFamily("headroom_console_browsers", "Browsers that get pictures", desk.browsers)
        yield GaugeMetricFamily("headroom_console_loop_lag_p99_seconds", "Lag of the console's loop", desk.lag.p99_s)
        if not head:
            return
        yield GaugeMetricFamily("headroom_picture_age_seconds", "Age of the newest cycle", desk.link.age_s)
        for name, text, key, factor in FIGURES:
            if head.get(key) is not None:
                yield GaugeMetricFamily(name, text, head[key] * factor)
        for name, text, key in COUNTS:
            if head.get(key) is not None:
                yield CounterMetricFamily(name, text, head[key])
        yield from _labelled(head)
        yield _gauge(
            "headroom_capped_racks", "Capped racks by the kind of what holds them", "reason",
            _kinds(head["reasons"], set(desk.link.sheet.get("reasons", {}).values())),
        )  # fmt: skip


def _labelled(head: dict[str, Any]) -> Iterator[Metric]:
    yield _gauge("headroom_mode", "The controller's mode, 1 for the one in force", "mode",
                 {m: float(head["mode"] == m) for m in ("off", "shadow", "hold", "live")})  # fmt: skip
    yield _gauge("headroom_points", "Points by quality", "quality", head["points"])
    for name, text, key in (
        ("headroom_feed_load_watts", "Load of each feed", "load_w"),
        ("headroom_feed_limit_watts", "Limit of each feed", "limit_w"),
    ):
        yield _gauge(name, text, "feed", {f["id"]: f[key] for f in head["feeds"] if f[key] is not None})
    listed = head.get("alarm_list")
    if listed is None:
        yield _gauge("headroom_alarms", "Standing alarms", "priority", {"all": len(head["alarms"])})
    else:
        counts: dict[str, int] = {}
        for alarm in listed:
            counts[str(alarm["priority"])] = counts.get(str(alarm["priority"]), 0) + 1
        yield _gauge("headroom_alarms", "Standing alarms", "priority", counts)
    if security := head["security"]:
        yield GaugeMetricFamily("headroom_losses", "Single losses on the list", security["losses"])
        yield GaugeMetricFamily("headroom_losses_not_secured", "Of them not secured", security["not_secured"])
    shed = head["shed"]
    yield GaugeMetricFamily("headroom_racks_shed", "Racks that are shed", shed["racks"] if shed else 0)


def _kinds(reasons: dict[str, int], words: set[str]) -> dict[str, int]:
    """Capped racks by the kind of limit, so that there are few series, whatever limits the site has."""
    out: dict[str, int] = {}
    for text, racks in reasons.items():
        kind = text if text in words else text.split(" ")[0] + " after a loss" * (" after loss of " in text)
        out[kind] = out.get(kind, 0) + racks
    return out


def _gauge(name: str, text: str, label: str, values: dict[str, Any]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], float(value))
    return family


@router.get("/metrics", responses=errors(401), response_class=Response)
async def metrics(desk: TheDesk, _: Viewer) -> Response:
    """The newest cycle in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Newest(desk))
    return Response(generate_latest(registry), media_type=KIND)
