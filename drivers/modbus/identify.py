"""Who is it: basic device identification (function 43/14), for the technician's tools."""

from dataclasses import dataclass

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu.mei_message import ReadDeviceInformationResponse


@dataclass(frozen=True)
class Identity:
    """What a device says of itself; empty where it says nothing."""

    vendor: str
    product: str
    revision: str


async def identify(host: str, port: int, unit: int, timeout_s: float = 1.0) -> Identity:
    """Ask a device who it is; ConnectionError when it does not answer or has no identification."""
    client = AsyncModbusTcpClient(host, port=port, timeout=timeout_s, retries=0, reconnect_delay=0)
    try:
        if not await client.connect():
            raise ConnectionError(f"no connection to {host}:{port}")
        reply = await client.read_device_information(read_code=1, object_id=0, device_id=unit)
    except ModbusException as error:
        raise ConnectionError(f"unit {unit} at {host}:{port}: {error}") from error
    finally:
        client.close()
    if not isinstance(reply, ReadDeviceInformationResponse):
        raise ConnectionError(f"unit {unit} at {host}:{port} has no identification: {reply}")
    texts = [reply.information.get(i, b"") for i in range(3)]
    return Identity(*(t.decode("ascii", "replace") if isinstance(t, bytes) else str(t) for t in texts))
