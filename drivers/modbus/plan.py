"""Which reads fetch a profile's polled points: registers merged into few requests, as the profile allows."""

from dataclasses import dataclass

from drivers.profile import WORDS, Block, Point, Profile


@dataclass(frozen=True)
class Read:
    """One read request; `points` are the polled points (by position) whose registers or scale factors it holds."""

    fc: int
    addr: int
    count: int
    points: tuple[int, ...]


@dataclass(frozen=True)
class _Span:
    fc: int
    first: int
    last: int
    block: int
    point: int


def plan_reads(profile: Profile) -> tuple[Read, ...]:
    """Merged reads: never across a block's bounds, over undeclared registers only where `holes_ok`, none too long."""
    declared: set[tuple[int, int]] = {(p.fc, p.addr + k) for p in profile.points for k in range(WORDS[p.type])}
    reads: list[Read] = []
    run: list[_Span] = []
    for span in sorted(_spans(profile), key=lambda s: (s.block, s.first, s.last)):
        if run and not _joins(profile, declared, run, span):
            reads.append(_read(run))
            run = []
        run.append(span)
    return (*reads, _read(run)) if run else tuple(reads)


def single_reads(profile: Profile, read: Read) -> tuple[Read, ...]:
    """The same registers one point (or scale factor) at a time, for a device that refuses the merged read."""
    by_place: dict[tuple[int, int, int], list[int]] = {}
    for span in _spans(profile):
        if span.fc == read.fc and read.addr <= span.first and span.last < read.addr + read.count:
            by_place.setdefault((span.fc, span.first, span.last), []).append(span.point)
    return tuple(Read(fc, first, last - first + 1, tuple(points)) for (fc, first, last), points in by_place.items())


def requests_per_poll(profile: Profile) -> int:
    """Requests that one poll of a device takes."""
    return len(plan_reads(profile)) if profile.protocol == "modbus" else 0


def _spans(profile: Profile) -> list[_Span]:
    spans = []
    for i, point in enumerate(profile.polled()):
        factor = [profile.point(point.scale_point)] if point.scale_point else []
        spans += [_Span(p.fc, p.addr, p.addr + WORDS[p.type] - 1, _block(profile, p), i) for p in (point, *factor)]
    return spans


def _block(profile: Profile, p: Point) -> int:
    def holds(block: Block) -> bool:
        return block.fc == p.fc and block.first <= p.addr and p.addr + WORDS[p.type] - 1 <= block.last

    return next(i for i, block in enumerate(profile.blocks) if holds(block))


def _joins(profile: Profile, declared: set[tuple[int, int]], run: list[_Span], span: _Span) -> bool:
    end = max(s.last for s in run)
    fits = max(end, span.last) - run[0].first < profile.max_registers
    gap = range(end + 1, span.first)
    return span.block == run[0].block and fits and (profile.holes_ok or all((span.fc, a) in declared for a in gap))


def _read(run: list[_Span]) -> Read:
    first, last = run[0].first, max(s.last for s in run)
    return Read(run[0].fc, first, last - first + 1, tuple(sorted({s.point for s in run})))
