"""What a host knows of one edge node: whether it lives, the sequence of its messages, aliases and data types."""

import math
from dataclasses import dataclass, field

from drivers.mqtt.sparkplug.payload import BD_SEQ, Message, Metric

SEQS = 256
MAX_HELD = 64  # messages kept while one before them is missing
MAX_NAMES = 100_000  # metrics of one node that we note
FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 60.0  # between two requests for a rebirth


@dataclass
class Node:
    """One edge node. `devices` are those of the site that belong to it; "" is the node itself."""

    devices: set[str]
    online: bool = False
    bd_seq: int | None = None
    seq: int = -1  # of the last message in order
    aliases: dict[int, tuple[str, str]] = field(default_factory=dict)  # alias -> device, metric
    types: dict[str, dict[int | str, int]] = field(default_factory=dict)  # device -> data type by alias or name
    held: dict[int, tuple[str, str, bytes]] = field(default_factory=dict)  # seq -> kind, device, payload
    gap_since_s: float = math.inf
    rebirth_due_s: float = math.inf  # infinite: none is wanted
    rebirths: int = 0  # asked for since the last birth

    def born(self, message: Message) -> None:
        """NBIRTH: everything from before is void."""
        bd_seq = message.value(BD_SEQ)
        self.online, self.bd_seq = True, bd_seq if isinstance(bd_seq, int) else None
        self.seq = message.seq if message.seq is not None else 0
        self.aliases, self.types, self.held = {}, {}, {}
        self.gap_since_s = self.rebirth_due_s = math.inf
        self.rebirths = 0
        self.learn("", message)

    def learn(self, device: str, message: Message) -> None:
        """Names, aliases and data types of a birth."""
        types: dict[int | str, int] = {}
        for metric in message.metrics[:MAX_NAMES]:
            types[metric.name] = metric.datatype
            if metric.alias is not None and metric.name:
                types[metric.alias] = metric.datatype
                if len(self.aliases) < MAX_NAMES:
                    self.aliases[metric.alias] = (device, metric.name)
        self.types[device] = types

    def is_next(self, seq: int) -> bool:
        """Whether this is the next message in order."""
        return seq == (self.seq + 1) % SEQS

    def name_of(self, device: str, metric: Metric) -> str | None:
        """The metric's name; None for an alias that no birth of this device has told."""
        if metric.name or metric.alias is None:
            return metric.name
        owner, name = self.aliases.get(metric.alias, ("", ""))
        return name if name and owner == device else None

    def want_rebirth(self, now_s: float, after_s: float = 0.0) -> None:
        """Ask for a rebirth soon, or when the wait since the last request is over."""
        self.rebirth_due_s = min(self.rebirth_due_s, now_s + after_s)

    def asked(self, now_s: float) -> None:
        """A request went out; the next one waits longer."""
        self.rebirth_due_s = now_s + min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self.rebirths, 10))
        self.rebirths += 1
