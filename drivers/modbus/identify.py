"""Who is it: ask a device for its identity, by function 43/14 or from the text registers of its profile."""

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu.mei_message import ReadDeviceInformationResponse

from drivers.modbus.identity import COLUMNS, Identity, text_of
from drivers.profile import Profile


def identity_of(reply: ReadDeviceInformationResponse) -> Identity:
    """The first three objects of an identification reply."""
    found = [reply.information.get(i, b"") for i in range(3)]
    return Identity(*(text_of(t if isinstance(t, bytes) else str(t).encode()) for t in found))


async def identify_on(client: AsyncModbusTcpClient, unit: int, profile: Profile | None = None) -> Identity:
    """Ask over an open connection: the profile's text registers, else function 43/14.

    ConnectionError when it has no identification, pymodbus's ModbusException when it does not answer.
    """
    texts = dict(profile.identity) if profile else {}
    if texts:
        shown: dict[str, str] = {}
        for name, place in texts.items():
            read = client.read_holding_registers if place.fc == 3 else client.read_input_registers
            registers = await read(place.addr, count=place.words, device_id=unit)
            if registers.isError():
                raise ConnectionError(f"its {name} cannot be read: {registers}")
            shown[COLUMNS[name]] = text_of(b"".join(r.to_bytes(2, "big") for r in registers.registers))
        return Identity(**shown)
    reply = await client.read_device_information(read_code=1, object_id=0, device_id=unit)
    if not isinstance(reply, ReadDeviceInformationResponse):
        raise ConnectionError(f"it has no identification: {reply}")
    return identity_of(reply)


async def identify(host: str, port: int, unit: int, timeout_s: float = 1.0, profile: Profile | None = None) -> Identity:
    """Ask a device who it is; ConnectionError when it does not answer or has no identification."""
    client = AsyncModbusTcpClient(host, port=port, timeout=timeout_s, retries=0, reconnect_delay=0)
    try:
        if not await client.connect():
            raise ConnectionError(f"no connection to {host}:{port}")
        return await identify_on(client, unit, profile)
    except (ModbusException, ConnectionError) as error:
        raise ConnectionError(f"unit {unit} at {host}:{port}: {error}") from error
    finally:
        client.close()
