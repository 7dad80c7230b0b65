"""Values of the BMS in bulk: the fast reading equals the exact one on everything, a batch equals one by one."""

import json
import math
from typing import Any

import numpy as np
from helpers_site import tiny_site
from hypothesis import example, given, settings
from hypothesis import strategies as st

from drivers.clock import VirtualClock
from drivers.inventory import compile_inventory
from drivers.mqtt.bms_values import BmsValues, Reading, exact, usual
from drivers.mqtt.dsx_topics import VALUE
from drivers.points import PointTable, Quality
from drivers.profile import load_profiles

PROFILES = load_profiles()
numbers = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(repr),
    st.from_regex(r"-?[0-9]{1,12}(\.[0-9]{1,24})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)
words = st.one_of(numbers, st.sampled_from(["null", "true", "1", "0", '"1"', "[1]", "NaN", "-0", "1.", ".5", "+1", ""]))
gaps = st.sampled_from(["", " ", "  ", "\n"])


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Value messages of the usual form, nearly so, and of any other."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=80))
    names = draw(
        st.one_of(
            st.just(["value", "timestamp", "quality"]),
            st.lists(st.sampled_from(["value", "timestamp", "quality", "unit"]), max_size=5),
        )
    )
    stamps = st.one_of(st.just("1767225600000"), words)
    texts = [draw(stamps if name == "timestamp" else words) for name in names]
    gap = draw(gaps)
    body = f",{gap}".join(f'"{name}":{gap}{text}' for name, text in zip(names, texts, strict=True))
    end = draw(st.sampled_from(["", "", "", "}", " ", "x", "\x00"]))
    return ("{" + body + "}" + end).encode(draw(st.sampled_from(["utf-8", "utf-8", "utf-16"])))


def same(a: Reading, b: Reading) -> bool:
    return (a[0] == b[0] or (math.isnan(a[0]) and math.isnan(b[0]))) and a[1:] == b[1:]


@settings(max_examples=600, deadline=None)
@given(payloads())
@example(b'{"value":32.5,"timestamp":1767225600000,"quality":1}')
@example(b'{"value": 32.5, "timestamp": 1767225600000, "quality": 1}')
@example(b'{"value":999999999e9,"timestamp":0,"quality":1}')
@example(b'{"value":999999999.9999e09,"timestamp":999999999999999,"quality":99}')
@example(b'{"value":1e-99,"timestamp":1,"quality":0}')
@example(b'{"value":01,"timestamp":1,"quality":0}')
@example(b'{"value":-0,"timestamp":1,"quality":01}')
def test_what_the_fast_reading_takes_the_exact_one_takes_alike(payload: bytes) -> None:
    fast, slow = usual(payload), exact(payload)
    assert fast is None or (slow is not None and same(fast, slow))


@given(st.floats(-1e17, 1e17), st.integers(0, 10**15 - 1), st.integers(0, 1))
def test_the_fast_reading_takes_what_a_bms_sends(value: float, stamp: int, quality: int) -> None:
    body = {"value": round(value, 3) if abs(value) < 1e8 else float(f"{value:.6e}"), "timestamp": stamp}
    text = json.dumps(body | {"quality": quality})
    fast = usual(text.encode())
    small = body["value"] == 0 or 1e-99 < abs(body["value"]) < 1e9
    assert fast is not None or not small, text
    slow = exact(text.encode())
    assert slow is not None
    assert fast is None or same(fast, slow)


def reader() -> tuple[BmsValues, PointTable, VirtualClock]:
    clock = VirtualClock()
    inventory = compile_inventory(tiny_site(), PROFILES)
    table = inventory.table()
    return BmsValues(inventory, table, clock), table, clock


KEYS = sorted(reader()[0].wanted)


def state(values: BmsValues, table: PointTable) -> tuple[Any, ...]:
    counts = sorted((name, count) for name, count in values.counters.items() if count)
    return table.value.tolist(), table.quality.tolist(), table.time_s.tolist(), counts, values.silent()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*KEYS[:3], "Pump/unknown/x"]),
            st.one_of(
                payloads(),
                st.tuples(st.floats(-50, 200), st.integers(-700, 10), st.integers(0, 2)).map(
                    lambda t: json.dumps(
                        {"value": t[0], "timestamp": 1_767_225_600_000 + 1000 * t[1], "quality": t[2]}
                    ).encode()
                ),
            ),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.sets(st.sampled_from(KEYS[:3])),
)
def test_a_batch_is_as_one_by_one(messages: list[tuple[str, bytes, bool]], known: set[str]) -> None:
    retained_first = sorted(messages, key=lambda m: not m[2])  # as brokers send them
    sent = [((VALUE + key).encode(), payload, retained) for key, payload, retained in retained_first]
    (batch, whole, _), (single, one_by_one, _) = reader(), reader()
    for values in (batch, single):
        for key in sorted(known):
            values.convert(key, (1.0, 0.0))
    batch.take(sent)
    for message in sent:
        single.take([message])
    for values in (batch, single):
        for key in KEYS[:3]:
            values.convert(key, (1.0, 0.0))
    assert repr(state(batch, whole)) == repr(state(single, one_by_one))
    assert np.isfinite(whole.value[whole.quality == Quality.GOOD]).all()
