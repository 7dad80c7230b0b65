"""What is wrong with a profile's registers: encodings that lose values, addresses that overlap or lead nowhere."""

from collections.abc import Iterator

from drivers.profile.model import BITS, RAW_RANGE, WORDS, Point, Profile

MAX_BITS = 2000  # that one request may read (MODBUS Application Protocol V1.1b3, 6.1)
LIMIT_FUNCTIONS = {5: 1, 6: 3, 16: 3}  # write function -> the function that reads the same table
SUNSPEC_ABSENT = {  # type -> "not implemented" (SunSpec Device Information Model, data types)
    "u16": 0xFFFF,
    "s16": 0x8000,
    "u32": 0xFFFFFFFF,
    "s32": 0x80000000,
    "u64": 0xFFFFFFFFFFFFFFFF,
    "s64": 0x8000000000000000,
}


def lint_encoding(profile: Profile, p: Point) -> Iterator[str]:
    """Problems of one point's encoding."""
    width = 16 * WORDS[p.type]
    if "addr" not in p.model_fields_set:
        yield "its address is missing"
    if p.scale == 0:
        yield "a scale of zero loses the value"
    if (p.type == "bit") != (p.fc in BITS):
        yield "type bit is read by functions 1 and 2, every other type by 3 and 4"
    if any(not 0 <= bit < width for bit in p.bits):
        yield f"a flag bit lies outside its {width} bits"
    if any(not 0 <= raw < 2**width for raw in p.missing):
        yield f"a missing-value word does not fit {width} bits"
    if len(set(p.missing)) < len(p.missing):
        yield "a missing-value word is given twice"
    yield from _lint_reach(p)
    yield from _lint_write(p)
    if p.scale_point:
        factor = next((q for q in profile.points if q.name == p.scale_point), None)
        if factor is None or factor.type != "s16" or factor.scale_point or factor.model != p.model:
            yield f"its scale point {p.scale_point} must be a plain s16 point" + (
                f" of model {p.model}" if p.model else ""
            )
    if p.model and p.type in SUNSPEC_ABSENT and SUNSPEC_ABSENT[p.type] not in p.missing:
        yield f"missing lacks SunSpec's value for 'not implemented', {SUNSPEC_ABSENT[p.type]:#x}"


def _ends(p: Point) -> tuple[float, float]:
    """The lowest and highest value that the registers can say."""
    low, high = (raw * p.scale + p.shift for raw in RAW_RANGE[p.type])
    return min(low, high), max(low, high)


def _lint_reach(p: Point) -> Iterator[str]:
    """A range that the registers cannot reach is a wrong range or a wrong scale."""
    if p.scale_point or p.type[0] == "f" or not p.scale:
        return
    low, high = _ends(p)
    for what, end in (("min", p.min), ("max", p.max)):
        if abs(end) != float("inf") and not low <= end <= high:
            yield f"{what} {end} cannot be: {p.type} with this scale reaches {low:g}..{high:g}"


def _lint_write(p: Point) -> Iterator[str]:
    if not p.write:
        return
    if LIMIT_FUNCTIONS[p.write.fc] != p.fc:
        yield f"function {p.write.fc} does not write what function {p.fc} reads"
    if p.write.fc == 6 and WORDS[p.type] != 1:
        yield "function 6 writes one register only"
    if not p.scale_point and p.scale:
        low, high = _ends(p)
        if not low <= p.write.min <= p.write.max <= high:
            yield f"the write limits do not fit {p.type}"


def lint_registers(profile: Profile) -> Iterator[str]:
    """Problems of blocks, and of points against blocks and each other."""
    if not profile.blocks:
        yield "a Modbus profile needs its blocks"
    yield from _lint_blocks(profile)
    owner: dict[tuple[int, int, int], str] = {}
    for p in profile.points:
        if not any(b.holds(p.fc, p.model, p.places) for b in profile.blocks):
            yield f"point {p.name}: registers {p.places[0]}..{p.places[-1]} lie in no block"
        if p.fc not in BITS and WORDS[p.type] > profile.max_registers:
            yield f"point {p.name}: wider than max_registers {profile.max_registers}"
        if p.model and p.addr < 2:
            yield f"point {p.name}: a SunSpec model's first two registers are its id and length"
        for addr in p.places:
            other = owner.setdefault((p.fc, p.model, addr), p.name)
            if other != p.name:
                yield f"points {other} and {p.name} overlap at {addr}"
                break


def _lint_blocks(profile: Profile) -> Iterator[str]:
    for i, b in enumerate(profile.blocks):
        if not 0 <= b.first <= b.last <= 65535:
            yield f"block {b.first}..{b.last} is empty or out of reach"
        if b.model and (b.first or b.fc != 3 or b.last < 2):
            yield f"block of model {b.model}: it is holding registers from 0, its id word, on"
        if b.fc in BITS and b.last - b.first >= MAX_BITS:
            yield f"block {b.first}..{b.last}: bits are read whole, at most {MAX_BITS}"
        yield from (
            f"blocks {b.first}..{b.last} and {o.first}..{o.last} overlap"
            for o in profile.blocks[:i]
            if o.fc == b.fc and o.model == b.model and o.first <= b.last and b.first <= o.last
        )
        for addr, constant in b.constants.items():
            words = 1 if isinstance(constant, int) else -(-len(constant) // 2)
            if not b.first <= addr <= addr + words - 1 <= b.last:
                yield f"constant at {addr} lies in no block"
            if b.fc in BITS or (isinstance(constant, int) and not 0 <= constant <= 0xFFFF):
                yield f"constant at {addr} is no word of a register"
            if b.model and addr < 2:
                yield f"constant at {addr}: a SunSpec model's id and length are known"
