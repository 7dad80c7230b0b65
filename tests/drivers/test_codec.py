"""The vectorised codec against a plain per-point oracle, and both directions against each other."""

import math
import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from drivers.codec import absent_word, compile_codec, decode_point, encode_point
from drivers.profile import WORDS, Block, Point, Profile, load_profiles

PROFILES = {name: p for name, p in load_profiles().items() if p.protocol == "modbus"}
CODE = {"u16": "H", "s16": "h", "u32": "I", "s32": "i", "u64": "Q", "s64": "q", "f32": "f", "f64": "d", "f32pf": "f"}
TYPES = sorted(CODE)
ORDERS = ["hi-lo", "lo-hi", "hi-lo-swapped", "lo-hi-swapped"]


def make_profile(*points: Point) -> Profile:
    return Profile(
        name="t",
        title="Test",
        protocol="modbus",
        source="-",
        trust="memory",
        blocks=(Block(first=0, last=99),),
        points=points,
    )


def words_of(kind: str, order: str, raw: int) -> list[int]:
    words = list(struct.unpack(f">{WORDS[kind]}H", raw.to_bytes(2 * WORDS[kind], "big")))
    if order.endswith("swapped"):
        words = [(w >> 8 | w << 8) & 0xFFFF for w in words]
    return words if order.startswith("hi-lo") else words[::-1]


def oracle(point: Point, words: list[int]) -> tuple[float, bool]:
    """Decoding one point the pedestrian way."""
    if point.words.startswith("lo-hi"):
        words = words[::-1]
    data = b"".join(w.to_bytes(2, "little" if point.words.endswith("swapped") else "big") for w in words)
    (raw,) = struct.unpack(">" + CODE[point.type], data)
    if int.from_bytes(data, "big") in point.missing or not math.isfinite(raw):
        return math.nan, True
    if point.type == "f32pf" and abs(raw) > 1:
        if abs(raw) > 2:
            return math.nan, True
        raw = 2 - raw if raw > 0 else -2 - raw
    value = float(raw) * point.scale + point.shift
    return value, value < point.min or value > point.max


def corners(kind: str) -> list[int]:
    width = 16 * WORDS[kind]
    base = {
        0,
        1,
        2,
        (1 << width) - 1,
        (1 << width) - 2,
        1 << (width - 1),
        (1 << (width - 1)) - 1,
        0x8000,
        0x7FFF,
        0xFFFF,
    }
    return sorted(x for x in base if x < 1 << width)


@st.composite
def points_with_raw(draw: st.DrawFn) -> tuple[Point, int]:
    kind = draw(st.sampled_from(TYPES))
    raw = draw(st.one_of(st.sampled_from(corners(kind)), st.integers(0, (1 << 16 * WORDS[kind]) - 1)))
    point = Point(
        name="x",
        unit="",
        addr=draw(st.integers(0, 90)),
        type=kind,
        words=draw(st.sampled_from(ORDERS)),
        scale=draw(st.sampled_from([1.0, 0.1, 0.01, 1000.0, -1.0, 0.378541])),
        shift=draw(st.sampled_from([0.0, -273.15, 40.0])),
        min=draw(st.sampled_from([float("-inf"), -100.0])),
        max=draw(st.sampled_from([float("inf"), 5000.0])),
        missing=draw(st.sampled_from([(), (corners(kind)[-1],), (0, corners(kind)[-1])])),
        poll=True,
    )
    return point, raw


@given(st.lists(points_with_raw(), min_size=1, max_size=6))
def test_vectorised_decode_equals_the_oracle(cases: list[tuple[Point, int]]) -> None:
    points, at = [], 0
    for i, (p, _) in enumerate(cases):
        points.append(p.model_copy(update={"name": f"x{i}", "addr": at}))
        at += WORDS[p.type]
    codec = compile_codec(make_profile(*points))
    raw = codec.blank(2)
    for p, (_, word) in zip(points, cases, strict=True):
        raw[1, p.addr : p.addr + WORDS[p.type]] = words_of(p.type, p.words, word)
    value, bad = codec.decode(raw)
    as_it_came = np.zeros_like(value)
    np.testing.assert_array_equal(codec.decode_into(raw.astype(">u2"), as_it_came), bad)
    np.testing.assert_array_equal(as_it_came, value)
    for i, p in enumerate(points):
        words = [int(w) for w in raw[1, p.addr : p.addr + WORDS[p.type]]]
        want, want_bad = oracle(p, words)
        assert bad[1, i] == want_bad
        assert value[1, i] == pytest.approx(want, rel=1e-12, nan_ok=True)
        single, single_bad = decode_point(p, words)
        assert single == pytest.approx(want, rel=1e-12, nan_ok=True)
        assert single_bad == want_bad


@given(points_with_raw())
@example((Point(name="x", unit="", type="f32", addr=0, missing=(0, 0xFFFFFFFF), poll=True), 0x80000000))
@example((Point(name="x", unit="", type="f64", addr=0, missing=(0, 2**64 - 1), poll=True), 2**63))
def test_decoded_values_survive_the_round_trip(case: tuple[Point, int]) -> None:
    point, word = case
    codec = compile_codec(make_profile(point))
    raw = codec.blank(1)
    raw[0, point.addr : point.addr + WORDS[point.type]] = words_of(point.type, point.words, word)
    value, bad = codec.decode(raw)
    again, bad_again = codec.decode(codec.encode(value))
    if point.missing or point.type[0] == "f" or not np.isnan(value[0, 0]):
        assert bad_again[0, 0] == bad[0, 0]
        resolution = abs(point.scale) * (1 if point.type[0] != "f" else 0)
        magnitude = abs(value[0, 0]) + abs(point.shift)
        tolerance = 1e-6 * magnitude if point.type == "f32" else 1e-9 * magnitude
        if point.type[0] == "f":  # where zero is a sentinel its neighbour is sent
            width = np.float64 if point.type == "f64" else np.float32
            tolerance += max(abs(point.scale), 1.0) * float(np.finfo(width).smallest_subnormal)
        assert np.isnan(value[0, 0]) == np.isnan(again[0, 0])
        if not np.isnan(value[0, 0]):
            assert abs(again[0, 0] - value[0, 0]) <= tolerance + (1e-6 * resolution)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("order", ORDERS)
def test_corner_words_come_back_bit_for_bit(kind: str, order: str) -> None:
    point = Point(name="x", unit="", addr=3, type=kind, words=order, poll=True)
    codec = compile_codec(make_profile(point))
    for word in corners(kind):
        raw = codec.blank(1)
        raw[0, 3 : 3 + WORDS[kind]] = words_of(kind, order, word)
        value, bad = codec.decode(raw)
        if bad[0, 0]:
            continue
        exact = abs(value[0, 0]) < 2**53 and value[0, 0] != 0.0  # minus zero comes back as zero
        if exact:
            np.testing.assert_array_equal(codec.encode(value), raw)
        else:
            np.testing.assert_array_equal(codec.decode(codec.encode(value))[0], value)


@pytest.mark.parametrize("kind", TYPES)
def test_nan_goes_out_as_the_sentinel(kind: str) -> None:
    plain = Point(name="x", unit="", type=kind, poll=True)
    marked = plain.model_copy(update={"missing": (7,)})
    for point in (plain, marked):
        codec = compile_codec(make_profile(point))
        raw = codec.encode(np.array([[math.nan]]))
        got = int.from_bytes(raw[0, : WORDS[kind]].astype(">u2").tobytes(), "big")
        assert got == absent_word(point)
        assert tuple(raw[0, : WORDS[kind]]) == encode_point(point, math.nan)
    value, bad = codec.decode(raw)
    assert bad[0, 0]
    assert np.isnan(value[0, 0])


def test_what_does_not_fit_saturates_and_never_looks_missing() -> None:
    point = Point(name="x", unit="", type="u16", scale=0.1, missing=(0xFFFF, 0xFFFE), poll=True)
    codec = compile_codec(make_profile(point))
    raw = codec.encode(np.array([[1e9], [-5.0], [6553.4]]))
    assert raw[:, 0].tolist() == [0xFFFD, 0, 0xFFFD]


def test_long_integers_saturate_at_their_ends() -> None:
    points = [Point(name=f"x{i}", unit="", addr=4 * i, type=k, poll=True) for i, k in enumerate(("u64", "s64"))]
    codec = compile_codec(make_profile(*points))
    value, bad = codec.decode(codec.encode(np.array([[1e30, 1e30], [-1e30, -1e30]])))
    assert not bad.any()
    np.testing.assert_allclose(value, [[2.0**64, 2.0**63], [0, -(2.0**63)]], rtol=1e-15)


def test_scale_points_are_read_from_the_image_per_row() -> None:
    profile = PROFILES["sunspec_battery"]
    codec = compile_codec(profile)
    raw = codec.blank(3)
    codec.put(raw, "power_factor10", np.array([4.0, 2.0, math.nan]))
    value = np.tile([55.5, 99.0, -123_400.0, 3.0, 17.0, 4.0e6], (3, 1))
    decoded, bad = codec.decode(codec.encode(value, raw))
    np.testing.assert_allclose(decoded[:2, 2], [-120_000.0, -123_400.0])
    assert bad[2, 2]
    assert not bad[:2].any()
    np.testing.assert_allclose(decoded[0, [0, 1, 5]], [55.5, 99.0, 4.0e6])


def test_put_and_get_reach_points_that_are_not_polled() -> None:
    codec = compile_codec(PROFILES["delta_rpu_orv3"])
    raw = codec.blank(2)
    codec.put(raw, "flow_target_lpm", np.array([120.5, 80.0]))
    value, bad = codec.get(raw, "flow_target_lpm")
    np.testing.assert_allclose(value, [120.5, 80.0])
    assert not bad.any()


def test_scalar_encoding_refuses_what_a_register_cannot_express() -> None:
    point = Point(name="x", unit="W", type="u16", scale=0.1, missing=(0xFFFF,))
    assert encode_point(point, 30.3) == (303,)
    with pytest.raises(ValueError, match="does not fit"):
        encode_point(point, 7000.0)
    with pytest.raises(ValueError, match="not available"):
        encode_point(point, 6553.5)


@pytest.mark.parametrize(
    ("raw", "value"), [(0.8, 0.8), (-0.8, -0.8), (1.0, 1.0), (-1.0, -1.0), (1.2, 0.8), (-1.2, -0.8), (2.0, 0.0)]
)
def test_power_factors_in_four_quadrants_have_the_sign_of_the_power(raw: float, value: float) -> None:
    point = Point(name="power_factor", unit="", addr=0, type="f32pf", min=-1, max=1, poll=True)
    codec = compile_codec(make_profile(point))
    image = codec.blank(1)
    image[0, :2] = struct.unpack(">2H", struct.pack(">f", raw))
    shown, bad = codec.decode(image)
    assert shown[0, 0] == pytest.approx(value, abs=1e-6)
    assert not bad[0, 0]
    assert decode_point(point, [int(w) for w in image[0, :2]])[0] == pytest.approx(value, abs=1e-6)
    assert codec.decode(codec.encode(shown))[0][0, 0] == pytest.approx(value, abs=1e-6)
    with pytest.raises(ValueError, match="does not fit"):
        encode_point(point, 1.5)


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(0, 500))
def test_bits_lie_in_the_image_as_a_reply_brings_them(on: list[bool], first: int) -> None:
    points = tuple(Point(name=f"x{i}", unit="", fc=2, addr=first + i, type="bit", poll=True) for i in range(len(on)))
    block = Block(fc=2, first=first, last=first + len(on) - 1)
    codec = compile_codec(make_profile(*points).model_copy(update={"blocks": (block,)}))
    data = bytearray((len(on) + 7) // 8)  # MODBUS Application Protocol V1.1b3, 6.2: lowest bit first
    for i, bit in enumerate(on):
        data[i // 8] |= bit << i % 8
    image = np.frombuffer(bytes(data) + b"\0" * (len(data) % 2), dtype=">u2").astype(np.uint16).reshape(1, -1)
    value, bad = codec.decode(image)
    assert value[0].tolist() == [float(bit) for bit in on]
    assert not bad.any()
    np.testing.assert_array_equal(codec.encode(value), image)


def test_constants_texts_and_model_heads_are_in_the_blank_image() -> None:
    codec = compile_codec(PROFILES["sunspec_battery"])
    row = codec.blank(1)[0]
    for model, length in ((1, 66), (701, 153), (704, 65), (713, 7), (715, 7), (802, 62)):
        assert [int(row[codec.column(3, a, model)]) for a in (0, 1)] == [model, length]
    first = codec.column(3, 2, 1)
    assert row[first : first + 4].astype(">u2").tobytes() == b"SunSpec\0"
