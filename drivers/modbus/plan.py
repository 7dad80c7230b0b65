"""Which reads fetch a profile's polled points: registers merged into few requests, as the profile allows.

Addresses of a SunSpec model count from its id word, and a read of one begins there: the id comes along with every
reply, so that a model which is no longer where it was is seen. Bits are read a block at a time.
"""

from dataclasses import dataclass

from drivers.modbus.frame import read_size
from drivers.profile import BITS, Profile
from drivers.site.model import Gateway

REQUEST_BYTES = 8  # unit, function, address, count, check sum
REPLY_BYTES = 5  # unit, function, bytes of data, check sum; the data come on top


@dataclass(frozen=True)
class Read:
    """One read request; `points` are the polled points (by position) whose registers or scale factors it holds."""

    fc: int
    addr: int
    count: int
    points: tuple[int, ...]
    model: int = 0  # SunSpec model that `addr` counts in

    def covers(self, fc: int, model: int, addr: int) -> bool:
        """Whether that register or bit comes with it."""
        return fc == self.fc and model == self.model and self.addr <= addr < self.addr + self.count


@dataclass(frozen=True)
class _Span:
    fc: int
    first: int
    last: int
    block: int
    point: int
    model: int


def plan_reads(profile: Profile) -> tuple[Read, ...]:
    """Merged reads: never across a block's bounds, over undeclared registers only where `holes_ok`, none too long."""
    declared: set[tuple[int, int, int]] = {(p.fc, p.model, a) for p in profile.points for a in p.places}
    reads: list[Read] = []
    run: list[_Span] = []
    for span in sorted([*_spans(profile), *_id_spans(profile)], key=lambda s: (s.block, s.first, s.last)):
        if run and not _joins(profile, declared, run, span):
            reads.append(_read(run))
            run = []
        run.append(span)
    return (*reads, _read(run)) if run else tuple(reads)


def single_reads(profile: Profile, read: Read) -> tuple[Read, ...]:
    """The same registers one point (or scale factor) at a time, for a device that refuses the merged read."""
    by_place: dict[tuple[int, int], list[int]] = {}
    for span in _spans(profile):
        if read.covers(span.fc, span.model, span.first) and read.covers(span.fc, span.model, span.last):
            by_place.setdefault((span.first, span.last), []).append(span.point)
    return tuple(
        Read(read.fc, first, last - first + 1, tuple(points), read.model) for (first, last), points in by_place.items()
    )


def requests_per_poll(profile: Profile) -> int:
    """Requests that one poll of a device takes."""
    return len(plan_reads(profile)) if profile.protocol == "modbus" else 0


def serial_s(read: Read, baud: int) -> float:
    """Time [s] that a read and its reply take on a serial line, with the silence behind each.

    Eleven bits a character, silence of 3.5 characters, above 19,200 baud 1.75 ms (MODBUS over Serial Line V1.02, 2.5).
    """
    character_s = 11.0 / baud
    silence_s = 3.5 * character_s if baud <= 19_200 else 1.75e-3
    return (REQUEST_BYTES + REPLY_BYTES + read_size(read.fc, read.count)) * character_s + 2.0 * silence_s


def poll_s(profile: Profile, gateway: Gateway) -> float:
    """Time [s] of a gateway that one poll of a device takes."""
    reads = plan_reads(profile) if profile.protocol == "modbus" else ()
    on_the_line_s = sum(serial_s(read, gateway.baud) for read in reads) if gateway.baud else 0.0
    return on_the_line_s + requests_per_poll(profile) * (gateway.service_ms + gateway.gap_ms) / 1000.0


def _spans(profile: Profile) -> list[_Span]:
    spans = []
    for i, point in enumerate(profile.polled()):
        factor = [profile.point(point.scale_point)] if point.scale_point else []
        for p in (point, *factor):
            block = profile.block(p.fc, p.model, p.places)
            places = range(block.first, block.last + 1) if p.fc in BITS else p.places
            spans.append(_Span(p.fc, places[0], places[-1], profile.blocks.index(block), i, p.model))
    return spans


def _id_spans(profile: Profile) -> list[_Span]:
    """Id and length of every SunSpec model that is read, for one of its points."""
    return list({s.block: _Span(s.fc, 0, 1, s.block, s.point, s.model) for s in _spans(profile) if s.model}.values())


def _joins(profile: Profile, declared: set[tuple[int, int, int]], run: list[_Span], span: _Span) -> bool:
    end = max(s.last for s in run)
    fits = span.fc in BITS or max(end, span.last) - run[0].first < profile.max_registers
    gap = ((span.fc, span.model, a) for a in range(end + 1, span.first))
    return span.block == run[0].block and fits and (profile.holes_ok or declared.issuperset(gap))


def _read(run: list[_Span]) -> Read:
    first, last = run[0].first, max(s.last for s in run)
    return Read(run[0].fc, first, last - first + 1, tuple(sorted({s.point for s in run})), run[0].model)
