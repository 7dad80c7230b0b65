"""Where a simulated device keeps its registers: its profile's blocks, or a chain of SunSpec models in any order."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from drivers.codec import Codec
from drivers.modbus.sunspec import BASES, END, MARKER
from drivers.profile import Point


@dataclass(frozen=True)
class Chain:
    """How a device lays out its SunSpec models: where, in which order, and which foreign ones stand between.

    Models not named in `order` are not served. A foreign model has an id of its own and so many registers.
    """

    base: int = BASES[0]
    order: Sequence[int] = ()  # empty: as in the profile
    foreign: Mapping[int, int] = field(default_factory=dict)
    lengths: Mapping[int, int] = field(default_factory=dict)  # of models that are shorter here than in the profile


@dataclass(frozen=True)
class Segment:
    """Registers or bits from `first` to `last`: a part of the image from `column` on, or `fixed` words."""

    fc: int
    first: int
    last: int
    column: int = 0
    fixed: bytes = b""
    head: bytes = b""  # words that stand instead of the image's first ones


@dataclass(frozen=True)
class Layout:
    """What devices of a profile have in common."""

    codec: Codec
    segments: tuple[Segment, ...]
    bases: Mapping[int, int]  # SunSpec model -> address of its id word
    writable: Mapping[tuple[int, int], Point]  # by reading function and first address
    identity: tuple[bytes, ...]  # vendor, product, revision

    @classmethod
    def of(cls, codec: Codec, chain: Chain | None = None) -> "Layout":
        """The layout of a profile; vendor and product are the words of its title."""
        profile = codec.profile
        vendor, _, product = profile.title.partition(" ")
        segments = [Segment(b.fc, b.first, b.last, codec.column(b.fc, b.first)) for b in profile.blocks if not b.model]
        bases: dict[int, int] = {}
        if profile.models:
            links, bases = _lay_chain(codec, chain or Chain())
            segments += links
        return cls(
            codec,
            tuple(segments),
            bases,
            {(p.fc, bases.get(p.model, 0) + p.addr): p for p in profile.points if p.write and p.model in {0, *bases}},
            (vendor.encode(), product.encode() or profile.name.encode(), b"1.0"),
        )


def _lay_chain(codec: Codec, chain: Chain) -> tuple[list[Segment], dict[int, int]]:
    blocks = {b.model: b for b in codec.profile.blocks if b.model}
    bases: dict[int, int] = {}
    at = chain.base
    segments = [Segment(3, at, at + 1, fixed=struct.pack(">2H", *MARKER))]
    at += 2
    for model in chain.order or codec.profile.models:
        if model in blocks:
            length = chain.lengths.get(model, blocks[model].last - 1)
            head = struct.pack(">2H", model, length)
            segments.append(Segment(3, at, at + 1 + length, codec.column(3, 0, model), head=head))
            bases.setdefault(model, at)
        else:
            length = chain.foreign[model]
            words = [model, length, *((7 * k + 1) & 0xFFFF for k in range(length))]
            segments.append(Segment(3, at, at + 1 + length, fixed=struct.pack(f">{length + 2}H", *words)))
        at += 2 + length
    return [*segments, Segment(3, at, at + 1, fixed=struct.pack(">2H", END, 0))], bases
