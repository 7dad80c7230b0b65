"""pymodbus clients for whatever needs no speed: the framing is the site's, nothing is retried."""

from pymodbus import FramerType
from pymodbus.client import AsyncModbusTcpClient, AsyncModbusTlsClient

from drivers.modbus.security import tls_context
from drivers.site.model import Framing


def make_client(host: str, port: int, framing: Framing, timeout_s: float) -> AsyncModbusTcpClient:
    """A client that is not connected yet; SecurityError where TLS lacks its files."""
    if framing == "tls":
        return AsyncModbusTlsClient(
            host, port=port, sslctx=tls_context(), timeout=timeout_s, retries=0, reconnect_delay=0
        )
    framer = FramerType.RTU if framing == "rtu" else FramerType.SOCKET
    return AsyncModbusTcpClient(host, port=port, framer=framer, timeout=timeout_s, retries=0, reconnect_delay=0)
