"""The other processes of the MQTT bench: rack agents that answer leases, and a BMS that publishes at a fixed rate."""

import asyncio
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import uvloop

from drivers.clock import RealClock
from drivers.lease import Holder, compile_groups, decode_lease
from drivers.mqtt import packets
from drivers.mqtt.client import Session
from drivers.mqtt.dsx_topics import METADATA, VALUE
from drivers.mqtt.endpoint import Endpoint
from drivers.mqtt.leases import lease_topic, report_topic
from drivers.profile import Point, Profile
from drivers.site.model import Site
from sim.serve.bms_objects import bms_groups

UP = "up"
TICK_S = 0.01
METADATA_PER_S = 4000
# The ten points of a rack that a BMS publishes (DSX Exchange, schemas/asyncapi/bms v1.0.0, Rack).
RACK_POINTS = (
    ("power_w", "W", "RackPower"),
    ("supply_c", "C", "RackLiquidSupplyTemperature"),
    ("return_c", "C", "RackLiquidReturnTemperature"),
    ("flow_lpm", "L/min", "RackLiquidFlow"),
    ("pressure_kpa", "kPa", "RackLiquidDifferentialPressure"),
    ("valve_pct", "%", "RackControlValvePosition"),
    ("leak", "", "RackLeakDetect"),
    ("leak_fault", "", "RackLeakSensorFault"),
    ("liquid_isolated", "", "RackLiquidIsolationStatus"),
    ("power_isolated", "", "RackElectricalIsolationStatus"),
)


def with_ten_points(profiles: dict[str, Profile]) -> dict[str, Profile]:
    """The profiles, with every rack point of the standard in `dsx_rack`."""
    points = tuple(Point(name=n, unit=u, topic=t, min=-1e9, max=1e9, poll=True) for n, u, t in RACK_POINTS)
    return {**profiles, "dsx_rack": profiles["dsx_rack"].model_copy(update={"points": points})}


def bus_value(k: int) -> float:
    """The value in the k-th message: another one every time a point's turn comes."""
    return (k * 7919 % 100_003) / 100.0


def serve_agents(site_json: str, where: Endpoint, links: int, pipe: Connection) -> None:
    """Agents of all racks over `links` connections (0: one for each hall), until told to stop by the pipe.

    Each answers a lease at once with its report, and reports once a second while there is none.
    """
    uvloop.run(_agents(Site.model_validate_json(site_json), where, links, pipe))


async def _agents(site: Site, where: Endpoint, links: int, pipe: Connection) -> None:
    clock = RealClock()
    groups = compile_groups(site.lease_groups, [r.id for r in site.racks], [r.gpus for r in site.racks])
    holder = Holder(np.array([round(r.safe_cap_w) for r in site.racks]), clock.now_s(), boot=clock.wall_ms() // 1000)
    power_w = np.array([r.idle_w for r in site.racks])
    halls = list(dict.fromkeys(r.hall for r in site.racks))
    sessions: list[Session] = []
    session_of: dict[str, int] = {}
    quiet_since_s = dict.fromkeys(groups, -np.inf)
    topics: list[list[str]] = [[] for _ in range(links or len(halls))]
    for i, (name, group) in enumerate(groups.items()):
        session_of[name] = i % links if links else halls.index(site.racks[int(group.racks[0])].hall)
        topics[session_of[name]].append(lease_topic(site.name, name))

    def report(name: str, now_s: float) -> None:
        holder.step(now_s)
        message = holder.report(groups[name], power_w)
        if sessions[session_of[name]].publish(report_topic(site.name, name), message.encode()):
            quiet_since_s[name] = now_s

    def take(topic: str, payload: bytes, retained: bool) -> None:  # noqa: ARG001
        lease = decode_lease(payload)
        holder.accept(lease, groups[lease.group].racks, clock.now_s())
        report(lease.group, clock.now_s())

    for i, wanted in enumerate(topics):
        sessions.append(Session(where, clock, name=f"agents {i}", subscriptions=wanted, on_message=take))
        sessions[-1].start()
    while not all(session.up for session in sessions):
        await clock.sleep_until(clock.now_s() + 0.05)
    pipe.send(UP)
    while not pipe.poll():
        now_s = clock.now_s()
        for name, since_s in quiet_since_s.items():
            if now_s - since_s > 1.5:
                report(name, now_s)
        await clock.sleep_until(now_s + 0.1)
    await asyncio.gather(*(session.stop() for session in sessions))


def publish_bms(
    site_json: str, profiles: dict[str, Any], where: Endpoint, per_s: int, seconds: int, pipe: Connection
) -> None:
    """When the pipe says so metadata of every rack point, then `per_s` values a second for `seconds` [s].

    Sends back the number of values sent and the time that it took [s].
    """
    site = Site.model_validate_json(site_json)
    group = bms_groups(site, {name: Profile.model_validate(body) for name, body in profiles.items()})["dsx_rack"]
    with socket.create_connection((where.host, where.port)) as link:
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link.sendall(packets.connect("bench-bms", 0, where.username, where.password))
        link.recv(4)
        pipe.recv()
        metadata = [packets.publish(METADATA + p.key, p.metadata) for p in group.points]
        uvloop.run(_evenly(link, len(metadata), METADATA_PER_S, lambda k: metadata[k]))
        pipe.send(UP)
        pipe.recv()
        topics, clock = [VALUE + p.key for p in group.points], RealClock()

        def value(k: int) -> bytes:
            payload = b'{"value":%.7g,"timestamp":%d,"quality":1}' % (bus_value(k), clock.wall_ms())
            return packets.publish(topics[k % len(topics)], payload)

        pipe.send((per_s * seconds, uvloop.run(_evenly(link, per_s * seconds, per_s, value))))
        link.sendall(packets.DISCONNECT)


async def _evenly(link: socket.socket, total: int, per_s: int, packet: Callable[[int], bytes]) -> float:
    """Send `total` packets, `per_s` a second in portions of TICK_S; how long it took [s]."""
    clock = RealClock()
    begin_s, sent = clock.now_s(), 0
    while True:
        due = min(total, int((clock.now_s() - begin_s + TICK_S) * per_s))
        link.sendall(b"".join(packet(k) for k in range(sent, due)))
        sent = due
        if sent == total:
            return clock.now_s() - begin_s
        await clock.sleep_until(clock.now_s() + TICK_S)
