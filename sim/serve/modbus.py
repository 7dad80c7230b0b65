"""The plant's Modbus TCP side: every device of the site, served from register images filled once a step.

One listener for each port on the loopback interface; the address 127.a.b.c that a client called is the device or
gateway.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Mapping

import numpy as np

from drivers.clock import Clock, RealClock
from drivers.codec import Codec, Flags, Registers, compile_codec
from drivers.modbus.reader import raise_fd_limit
from drivers.modbus.wheel import Wheel
from drivers.points import Floats
from drivers.profile import Profile
from drivers.site.model import Device, Site
from drivers.supervise import Supervisor
from sim.serve.modbus_endpoint import Connection, Endpoint, GatewayEndpoint
from sim.serve.modbus_faults import DeviceFaults
from sim.serve.modbus_layout import Layout
from sim.serve.modbus_station import Station, WriteCallback

log = logging.getLogger(__name__)
TICK_S = 0.002
BACKLOG = 4096


class PortTakenError(OSError):
    """Another program listens on a port of the plant."""


class PlantSlab:
    """All devices of one profile: their image as it goes over the wire, and who is frozen or blind."""

    def __init__(self, profile: Profile, devices: tuple[Device, ...]) -> None:
        self.devices = devices
        self.codec: Codec = compile_codec(profile)
        self.image: Registers = self.codec.blank(len(devices)).astype(">u2")
        self.frozen: Flags = np.zeros(len(devices), dtype=np.bool_)
        self.blind: Flags = np.zeros(len(devices), dtype=np.bool_)
        self._scratch = self.codec.blank(len(devices))

    def update(self, value: Floats) -> None:
        """New values [rows, polled points]; frozen devices keep theirs, blind ones show their sentinel."""
        if self.blind.any():
            value = np.where(self.blind[:, None], np.nan, value)
        self._scratch[:] = self.image  # what clients wrote stays
        self.codec.encode(value, self._scratch)
        if self.frozen.any():
            self.image[~self.frozen] = self._scratch[~self.frozen]
        else:
            self.image[:] = self._scratch

    def put(self, point: str, value: Floats | float) -> None:
        """Set a point that is not polled: value [rows], or one for all."""
        self._scratch[:] = self.image
        self.codec.put(self._scratch, point, value)
        self.image[:] = self._scratch

    def blank_row(self, row: int) -> None:
        """Show the sentinels of every polled point now."""
        one = self.image[row : row + 1].astype(np.uint16)
        self.image[row] = self.codec.encode(np.full((1, len(self.codec.points)), np.nan), one)[0]


class ModbusPlant:
    """Serves the site's Modbus devices on the loopback interface.

    `profiles` as from load_profiles; `on_write(device, point, value)` hears of accepted writes. A gateway answers
    for a unit that does not with exception 11, or, with `reports_failure` off, with silence.
    """

    def __init__(
        self,
        site: Site,
        profiles: Mapping[str, Profile],
        *,
        clock: Clock | None = None,
        on_write: WriteCallback | None = None,
        reports_failure: bool = True,
    ) -> None:
        self._site = site
        self._clock = clock or RealClock()
        self._wheel = Wheel(self._clock, TICK_S)
        self._supervisor = Supervisor(self._clock)
        self._servers: list[asyncio.Server] = []
        by_profile: dict[str, list[Device]] = {}
        for device in site.devices:
            if profiles[device.profile].protocol == "modbus":
                by_profile.setdefault(device.profile, []).append(device)
        self.slabs = {name: PlantSlab(profiles[name], tuple(ds)) for name, ds in by_profile.items()}
        self._set_storage_scales()
        self._stations = self._make_stations(on_write)
        self.endpoints = self._make_endpoints(reports_failure)
        self.faults = DeviceFaults(self.slabs, self._stations, self.endpoints, self._addresses())

    def _set_storage_scales(self) -> None:
        """SunSpec powers of ten, as a maker sets them for the size of the plant."""
        storage = {s.id: s for s in self._site.storage}
        for slab in self.slabs.values():
            units = [storage.get(d.measures) for d in slab.devices]
            if slab.codec.profile.name == "sunspec_battery" and all(units):
                power = np.array([1.2 * u.power_w for u in units if u])
                energy = np.array([u.energy_wh for u in units if u])
                slab.put("power_factor10", np.maximum(np.ceil(np.log10(power / 32767)), 0))
                slab.put("energy_factor10", np.maximum(np.ceil(np.log10(energy / 65534)), 0))
                slab.put("power_set_factor10", 0.0)
                slab.put("energy_rating_wh", energy)
                slab.put("storage_status", 1.0)  # on line

    def _make_stations(self, on_write: WriteCallback | None) -> dict[str, Station]:
        stations: dict[str, Station] = {}
        for slab in self.slabs.values():
            layout = Layout.of(slab.codec)
            data = slab.image.view(np.uint8).reshape(-1).data
            size = 2 * slab.codec.width
            for row, device in enumerate(slab.devices):
                stations[device.id] = Station(device, layout, data[row * size : (row + 1) * size], on_write)
        return stations

    def _addresses(self) -> dict[str, tuple[str, int]]:
        """Host and port of every gateway and of every device, own or behind a gateway."""
        places = {g.id: (g.host, g.port) for g in self._site.gateways}
        for id_, station in self._stations.items():
            device = station.device
            places[id_] = places[device.gateway] if device.gateway else (device.host, device.port)
        return places

    def _make_endpoints(self, reports_failure: bool) -> dict[tuple[str, int], Endpoint]:
        addresses = self._addresses()
        units: dict[tuple[str, int], dict[int, Station]] = {(g.host, g.port): {} for g in self._site.gateways}
        for id_, station in self._stations.items():
            units.setdefault(addresses[id_], {})[station.device.unit] = station
        gateways = {(g.host, g.port): g for g in self._site.gateways}
        endpoints: dict[tuple[str, int], Endpoint] = {
            place: GatewayEndpoint(
                members,
                self._clock,
                self._wheel,
                gateways[place].service_ms / 1000.0,
                reports_failure=reports_failure,
            )
            if place in gateways
            else Endpoint(members, self._clock, self._wheel)
            for place, members in units.items()
        }
        for place, endpoint in endpoints.items():
            gateway = gateways.get(place)
            framing = gateway.framing if gateway else next(iter(units[place].values())).device.framing
            endpoint.serial = framing == "rtu"
            if gateway and isinstance(endpoint, GatewayEndpoint):
                endpoint.baud = gateway.baud
            if framing == "tls":
                log.warning("%s:%d is to speak TLS, which the plant does not: it stays unread", *place)
        return endpoints

    def rows(self, profile: str) -> tuple[Device, ...]:
        """The profile's devices, in the order of their rows (that of the site's inventory); empty when none."""
        slab = self.slabs.get(profile)
        return slab.devices if slab else ()

    def update(self, profile: str, value: Floats) -> None:
        """New values of all devices of a profile, [rows, polled points]; ValueError on another shape."""
        slab = self.slabs[profile]
        if value.shape != (len(slab.devices), len(slab.codec.points)):
            raise ValueError(f"{profile}: values {value.shape}, not {len(slab.devices)} x {len(slab.codec.points)}")
        slab.update(value)

    def put(self, profile: str, point: str, value: Floats | float) -> None:
        """Set a point that is not polled (a target, a scale factor) on all devices of a profile."""
        self.slabs[profile].put(point, value)

    @property
    def requests(self) -> int:
        """Requests answered, refused or ignored since the start."""
        return sum(e.requests for e in self.endpoints.values())

    async def start(self) -> None:
        """Listen; PortTakenError names a port that another program has."""
        raise_fd_limit(len(self.endpoints) + 100)
        try:
            for port in sorted({port for _, port in self.endpoints}):
                for sock in self._listeners(port):
                    await self._serve(sock)
        except BaseException:
            await self.stop()
            raise
        self._supervisor.spawn("plant modbus wheel", self._wheel.run)

    async def _serve(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_server(self._accept, sock=sock, backlog=BACKLOG))

    def _listeners(self, port: int) -> list[socket.socket]:
        """One socket for the whole loopback network where the system lets us, else one for each address."""
        try:
            return [_listen("0.0.0.0", port, loopback=True)]  # noqa: S104  (bound to the loopback device)
        except PermissionError:
            return [_listen(host, port, loopback=False) for host, p in self.endpoints if p == port]

    def _accept(self) -> Connection:
        return Connection(self.endpoints.get)

    async def stop(self) -> None:
        """Stop listening and hang up on everybody."""
        await self._supervisor.stop()
        for server in self._servers:
            server.close()
        self._servers.clear()
        for endpoint in self.endpoints.values():
            endpoint.hang_up()
        await self._clock.sleep_until(self._clock.now_s())  # lets the transports close


def _listen(host: str, port: int, *, loopback: bool) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if loopback:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(error.errno, f"TCP port {port} is taken: is another plant running?") from error
        raise
    sock.setblocking(False)
    return sock
