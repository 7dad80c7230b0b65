"""The pictures to whoever looks: one WebSocket each, every picture encoded once for all, a slow one misses some."""

import asyncio
from contextlib import suppress

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from controller.console.desk import Desk
from controller.console.doors import desk_of, found, same_origin

router = APIRouter()
MOST = 200
SEND_S = 20.0  # a browser that takes nothing for so long is let go
AGAIN = 10  # pictures between two looks whether the session still holds
SIGNED_OUT, FULL = 4401, 4429


@router.websocket("/v1/frames")
async def frames(socket: WebSocket) -> None:
    """Pictures as binary messages (deflated, controller/form.py); text messages say how the controller is."""
    desk = desk_of(socket)
    await socket.accept()
    if not same_origin(socket) or found(socket) is None:
        await socket.close(SIGNED_OUT, "sign in")
        return
    if desk.browsers >= MOST:
        await socket.close(FULL, "too many look at once")
        return
    desk.browsers += 1
    sending = asyncio.ensure_future(_send(desk, socket))
    listening = asyncio.ensure_future(_listen(socket))
    try:
        await asyncio.wait({sending, listening}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        desk.browsers -= 1
        for task in (sending, listening):
            task.cancel()
        await asyncio.gather(sending, listening, return_exceptions=True)


async def _listen(socket: WebSocket) -> None:
    """Until it goes; what it says is of no interest."""
    with suppress(WebSocketDisconnect, RuntimeError):
        while True:
            await socket.receive_bytes()


async def _send(desk: Desk, socket: WebSocket) -> None:
    link = desk.link
    sent, said, looked = 0, None, 0
    while True:
        news = asyncio.ensure_future(link.wait())  # before anything is sent: what comes meanwhile is not missed
        state = (link.connected, link.sheet_number)
        async with asyncio.timeout(SEND_S):
            if state != said:
                await socket.send_json({"connected": state[0], "sheet": state[1]})
                said = state
            if link.number != sent and link.picture:
                sent = link.number
                await socket.send_bytes(link.picture)
        looked += 1
        if looked % AGAIN == 0 and found(socket) is None:
            await socket.close(SIGNED_OUT, "signed out")
            return
        await news
