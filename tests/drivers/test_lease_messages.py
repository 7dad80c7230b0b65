"""Decoding: whatever arrives, a good message or LeaseError comes out."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.lease import (
    MAX_BYTES,
    MAX_GPUS,
    MAX_RACKS,
    NO_GPU,
    Lease,
    LeaseError,
    Report,
    compile_groups,
    decode_lease,
    decode_report,
    roster,
)


def ints(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, dtype=np.int64)


LEASE = Lease("h1/r1", roster(["a", "b"]), 3, 9, 10.0, 5.0, ints(4, 5), ints(100, 200), ints(50, 60))
REPORT = Report("h1/r1", roster(["a", "b"]), ints(7, 8), ints(3, 3), ints(9, 9), ints(100, 200), ints(90, 10))
# the same two racks shed, and with caps and powers of two and of three GPUs
RUNGS, PER_GPU = ints(0, 3), np.array([[700, 650, NO_GPU], [1, 2, 3]])
FULL_LEASE, FULL_REPORT = (
    replace(LEASE, shed=RUNGS, gpu_cap_w=PER_GPU),
    replace(REPORT, shed=RUNGS, gpu_w=PER_GPU),
)
OPTIONAL_SWAPS = [
    ("shed", [0, 5]),
    ("shed", [0, -1]),
    ("shed", [1]),
    ("shed", [0, True]),
    ("shed", None),
    ("shed", 1),
    ("gpu_cap_w", [[700, 650]]),
    ("gpu_cap_w", [[700, 650], []]),
    ("gpu_cap_w", [[700, 650], [1, -1]]),
    ("gpu_cap_w", [[700, 650], [1, 10_000]]),
    ("gpu_cap_w", [[700, 650], [1, True]]),
    ("gpu_cap_w", [[700, 650], [1, 2.0]]),
    ("gpu_cap_w", [[700, 650], [[1]]]),
    ("gpu_cap_w", [[700, 650], "12"]),
    ("gpu_cap_w", [[700, 650], [1] * (MAX_GPUS + 1)]),
    ("gpu_cap_w", [700, 650]),
    ("gpu_cap_w", None),
    ("gpu_w", [[1, 2], [3]]),
]
SWAPS = [
    ("v", 2),
    ("v", True),
    ("group", "a/+"),
    ("group", "/a"),
    ("group", "x" * 200),
    ("group", 3),
    ("roster", "zz"),
    ("roster", None),
    ("seq", 0),
    ("epoch", 1.5),
    ("epoch", 2**53),
    ("ttl_s", 0),
    ("ttl_s", 1e9),
    ("ttl_s", "10"),
    ("decay_s", -1),
    ("echo", [1]),
    ("echo", [1, 2, 3]),
    ("cap_w", [1, -1]),
    ("cap_w", [1, True]),
    ("cap_w", [1, 2.0]),
    ("cap_w", [1, 10**300]),
    ("cap_w", []),
    ("cap_w", {"0": 1}),
    ("safe_cap_w", [1, None]),
]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def test_round_trip() -> None:
    lease, report = decode_lease(LEASE.encode()), decode_report(REPORT.encode())
    assert lease.encode() == LEASE.encode()
    assert report.encode() == REPORT.encode()
    assert lease.cap_w.dtype == np.int64


@pytest.mark.parametrize(("key", "value"), SWAPS)
def test_a_wrong_field_is_refused(key: str, value: object) -> None:
    body = {**json.loads(LEASE.encode()), key: value}
    with pytest.raises(LeaseError):
        decode_lease(json.dumps(body).encode())


def test_what_is_optional_comes_back_and_costs_nothing_where_it_says_nothing() -> None:
    lease, report = decode_lease(FULL_LEASE.encode()), decode_report(FULL_REPORT.encode())
    assert lease.encode() == FULL_LEASE.encode()
    assert report.encode() == FULL_REPORT.encode()
    assert lease.shed is not None
    assert lease.shed.tolist() == [0, 3]
    assert lease.gpu_cap_w is not None
    assert lease.gpu_cap_w.tolist() == PER_GPU.tolist()
    assert replace(LEASE, shed=ints(0, 0)).encode() == LEASE.encode()
    assert replace(REPORT, shed=ints(0, 0)).encode() == REPORT.encode()
    zeros = json.dumps({**json.loads(LEASE.encode()), "shed": [0, 0]}).encode()
    assert decode_lease(zeros).shed is None


@pytest.mark.parametrize(("key", "value"), OPTIONAL_SWAPS)
def test_a_wrong_optional_field_is_refused(key: str, value: object) -> None:
    body = {**json.loads(FULL_LEASE.encode()), key: value}
    with pytest.raises(LeaseError):
        decode_lease(json.dumps(body).encode())


def test_a_report_takes_no_caps_of_gpus_and_a_lease_no_powers() -> None:
    with pytest.raises(LeaseError, match="gpu_w"):
        decode_lease(FULL_LEASE.encode().replace(b"gpu_cap_w", b"gpu_w"))
    with pytest.raises(LeaseError, match="gpu_cap_w"):
        decode_report(FULL_REPORT.encode().replace(b"gpu_w", b"gpu_cap_w"))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 8000,
        b"null",
        b'{"v":' + b"9" * 7000 + b"}",
        LEASE.encode().replace(b"10.0", b"NaN"),
        LEASE.encode().replace(b"10.0", b"1e999"),
        LEASE.encode()[:-1] + b',"more":1}',
        REPORT.encode(),
        LEASE.encode() + b" " * MAX_BYTES,
    ],
)
def test_a_wrong_payload_is_refused(payload: bytes) -> None:
    with pytest.raises(LeaseError):
        decode_lease(payload)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_lease_error(payload: bytes) -> None:
    for decode in (decode_lease, decode_report):
        with pytest.raises(LeaseError):
            decode(payload)


@settings(max_examples=500, deadline=None)
@given(
    st.dictionaries(st.sampled_from([*sorted(json.loads(FULL_LEASE.encode())), "gpu_w"]), anything, max_size=3),
    st.booleans(),
)
def test_mutated_messages_decode_or_raise_lease_error(changes: dict[str, object], report: bool) -> None:
    original = FULL_REPORT if report else FULL_LEASE
    body = json.loads(original.encode())
    payload = json.dumps({**body, **{k: v for k, v in changes.items() if k in body}}).encode()
    try:
        message = decode_report(payload) if report else decode_lease(payload)
    except LeaseError:
        return
    assert json.loads(message.encode()).keys() in (body.keys(), body.keys() - {"shed"})


def test_the_largest_group_with_the_longest_numbers_fits_one_message() -> None:
    big = np.full(MAX_RACKS, 2**53 - 1, dtype=np.int64)
    caps = np.full(MAX_RACKS, 9_999_999, dtype=np.int64)
    name = "h" * 128
    assert decode_lease(Lease(name, LEASE.roster, 2**53 - 1, 1, 10.0, 5.0, big, caps, caps).encode()).seq == 1
    assert decode_report(Report(name, LEASE.roster, big, big, big, caps, caps).encode()).beat[0] == 2**53 - 1
    rungs, gpus = np.full(MAX_RACKS, 4, dtype=np.int64), np.full((MAX_RACKS, MAX_GPUS), 9_999, dtype=np.int64)
    lease = Lease(name, LEASE.roster, 2**53 - 1, 1, 10.0, 5.0, big, caps, caps, rungs, gpus).encode()
    report = Report(name, LEASE.roster, big, big, big, caps, caps, rungs, gpus).encode()
    assert decode_lease(lease).seq == 1
    assert decode_report(report).beat[0] == 2**53 - 1
    assert 0.9 * MAX_BYTES < max(len(lease), len(report)) <= MAX_BYTES


def test_groups_check_name_roster_and_size() -> None:
    groups = compile_groups({"h1/r1": (0, 2), "h1/r2": (1,)}, ["a", "x", "b"])
    assert groups["h1/r1"].racks.tolist() == [0, 2]
    groups["h1/r1"].check(LEASE)
    with pytest.raises(LeaseError, match="expected 'h1/r2'"):
        groups["h1/r2"].check(LEASE)
    other = compile_groups({"h1/r1": (2, 0)}, ["a", "x", "b"])["h1/r1"]
    with pytest.raises(LeaseError, match="other racks"):
        other.check(REPORT)


def test_per_gpu_values_are_taken_for_the_racks_own_gpus_only() -> None:
    ids = ["a", "x", "b"]
    compile_groups({"h1/r1": (0, 2)}, ids, [2, 9, 3])["h1/r1"].check(FULL_LEASE)
    compile_groups({"h1/r1": (0, 2)}, ids, [2, 9, 3])["h1/r1"].check(FULL_REPORT)
    for gpus in (None, [3, 9, 3], [2, 9, 2]):
        with pytest.raises(LeaseError, match="other GPUs"):
            compile_groups({"h1/r1": (0, 2)}, ids, gpus)["h1/r1"].check(FULL_LEASE)
    with pytest.raises(LeaseError, match="GPUs"):
        compile_groups({"h1/r1": (0,)}, ids, [MAX_GPUS + 1, 1, 1])


@pytest.mark.parametrize("groups", [{"a#": [0]}, {"a": []}, {"a": [0] * 65}])
def test_groups_that_no_message_can_carry(groups: dict[str, list[int]]) -> None:
    with pytest.raises(LeaseError):
        compile_groups(groups, ["r"])
