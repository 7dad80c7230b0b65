"""Where a device keeps its SunSpec models: the chain is walked from its marker, no address is taken for granted.

A chain is the marker "SunS", then models, each with its id and the length of the rest, then the end id 0xFFFF.
Source: SunSpec Device Information Model Specification, sections 4 and 6; base addresses FACTS A.7.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from drivers.profile import Point, Text

MARKER = (0x5375, 0x6E53)  # "SunS"
BASES = (40000, 50000, 0)
END = 0xFFFF
MAX_MODELS = 128  # a chain without an end is none


class Model(NamedTuple):
    """One model of a device: address of its id word, registers after its length."""

    base: int
    length: int


class ChainWalk:
    """One walk along a chain: read the two registers at `addr`, tell `answer`, until `done`. Begins at one of BASES."""

    def __init__(self, base: int = BASES[0]) -> None:
        self.addr = base
        self.models: dict[int, Model] = {}  # id -> the first of that id
        self.found = False  # the marker
        self.done = False
        self._tries = list(BASES)
        self._seen = 0

    def answer(self, words: Sequence[int] | None) -> None:
        """What stands at `addr`; None where the device refuses it."""
        if not self.found:
            self._look_for_marker(words)
            return
        self._seen += 1
        if words is None or words[0] == END or self._seen > MAX_MODELS:
            self.done = True
            return
        self.models.setdefault(words[0], Model(self.addr, words[1]))
        self.addr += 2 + words[1]
        self.done = self.addr > 0xFFFE

    def _look_for_marker(self, words: Sequence[int] | None) -> None:
        if words is not None and tuple(words) == MARKER:
            self.found = True
            self.addr += 2
            return
        self._tries.remove(self.addr)
        self.done = not self._tries
        self.addr = self._tries[0] if self._tries else self.addr

    def silent(self) -> None:
        """Nothing came from `addr`: some devices do not answer where they have nothing, so another base is next."""
        if not self.found and not self.done:
            self.addr = self._tries[(self._tries.index(self.addr) + 1) % len(self._tries)]


async def find_models(client: AsyncModbusTcpClient, unit: int) -> dict[int, Model]:
    """Models of a device by id, empty when it has no chain; pymodbus's ModbusException when it does not answer.

    Some devices are silent where they have nothing: that is no chain there, unless they are silent everywhere.
    """
    walk, silences = ChainWalk(), 0
    while not walk.done:
        try:
            reply = await client.read_holding_registers(walk.addr, count=2, device_id=unit)
        except ModbusException:
            silences += 1
            if walk.found or silences == len(BASES):
                raise
            walk.answer(None)
            continue
        walk.answer(None if reply.isError() or len(reply.registers) != 2 else reply.registers)
    return walk.models


def wire_address(thing: Point | Text, models: Mapping[int, Model]) -> int:
    """Address of a point or text on a device with these models; LookupError when its model is not there or too short.

    Without a model it is the profile's own.
    """
    if not thing.model:
        return thing.addr
    model = models.get(thing.model)
    last = (thing.places if isinstance(thing, Point) else range(thing.addr, thing.addr + thing.words))[-1]
    if model is None:
        raise LookupError(f"it has no SunSpec model {thing.model}")
    if last > model.length + 1:
        raise LookupError(f"its SunSpec model {thing.model} has {model.length} registers, too few")
    return model.base + thing.addr
