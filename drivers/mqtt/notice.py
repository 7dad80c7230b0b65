"""One message to a broker and away again: for hooks that speak seldom."""

import asyncio

import aiomqtt

from drivers.mqtt.endpoint import Endpoint


def publish(to: Endpoint, topic: str, payload: bytes, within_s: float) -> None:
    """Deliver one message, QoS 1, not retained. OSError when the broker has not taken it in time. It blocks."""

    async def once() -> None:
        async with asyncio.timeout(within_s):
            client = aiomqtt.Client(
                to.host,
                to.port,
                username=to.username,
                password=to.password,
                tls_context=to.tls_context(),
                timeout=within_s,
            )
            async with client:
                await client.publish(topic, payload, qos=1)

    try:
        asyncio.run(once())
    except aiomqtt.MqttError as error:
        raise OSError(str(error)) from error
