"""Faults of the plant's Modbus side, switched by device or gateway id."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, get_args

from sim.serve.modbus_endpoint import Endpoint
from sim.serve.modbus_station import Station

if TYPE_CHECKING:
    from sim.serve.modbus import PlantSlab

DeviceFault = Literal["silent", "stuck", "sentinel", "exception", "slow", "garbage"]
GatewayFault = Literal["silent", "refuses"]


class DeviceFaults:
    """At most one fault for each device and each gateway.

    Device: silent (no answer), stuck (registers frozen), sentinel (shows "not available"), exception (refuses all
    with `level` as code), slow (`level` seconds), garbage (random bytes). Gateway: silent, refuses (hangs up).
    """

    def __init__(
        self,
        slabs: "Mapping[str, PlantSlab]",
        stations: Mapping[str, Station],
        endpoints: Mapping[tuple[str, int], Endpoint],
        places: Mapping[str, tuple[str, int]],
    ) -> None:
        self.active: dict[str, str] = {}
        self._stations, self._endpoints, self._places = stations, endpoints, places
        self._rows = {d.id: (slab, row) for slab in slabs.values() for row, d in enumerate(slab.devices)}

    def set(self, device: str, kind: DeviceFault, level: float = 4.0) -> None:
        """Put a fault on a device, instead of the one it has; KeyError for an unknown device, ValueError for a kind."""
        if kind not in get_args(DeviceFault):
            raise ValueError(f"{kind} is no fault of a device: {', '.join(get_args(DeviceFault))}")
        self.clear(device)
        station, endpoint = self._stations[device], self._endpoints[self._places[device]]
        slab, row = self._rows[device]
        slab.frozen[row] = kind == "stuck"
        slab.blind[row] = kind == "sentinel"
        if kind == "sentinel":
            slab.blank_row(row)
        elif kind == "slow" and not station.device.gateway:
            endpoint.delay_s = level
        elif kind != "stuck":
            station.fault = (
                f"{kind}:{level if kind == 'slow' else int(level)}" if kind in ("slow", "exception") else kind
            )
        endpoint.forget()
        self.active[device] = kind

    def clear(self, device: str) -> None:
        """Take a device's fault away; its registers are right again with the plant's next step."""
        station, endpoint = self._stations[device], self._endpoints[self._places[device]]
        slab, row = self._rows[device]
        slab.frozen[row] = slab.blind[row] = False
        station.fault = ""
        if not station.device.gateway:
            endpoint.delay_s = 0.0
        endpoint.forget()
        self.active.pop(device, None)

    def set_gateway(self, gateway: str, kind: GatewayFault) -> None:
        """Put a fault on a gateway (or on a device's own connection); open connections are cut when it refuses."""
        if kind not in get_args(GatewayFault):
            raise ValueError(f"{kind} is no fault of a gateway: {', '.join(get_args(GatewayFault))}")
        endpoint = self._endpoints[self._places[gateway]]
        endpoint.fault = kind
        endpoint.forget()
        if kind == "refuses":
            endpoint.hang_up()
        self.active[gateway] = kind

    def clear_gateway(self, gateway: str) -> None:
        """Take a gateway's fault away."""
        self._endpoints[self._places[gateway]].fault = ""
        self.active.pop(gateway, None)

    def clear_all(self) -> None:
        """Everything sound again."""
        for id_ in tuple(self.active):
            self.clear_gateway(id_)
            if id_ in self._stations:
                self.clear(id_)
