"""Profiles as data: the packaged ones are clean and say where they come from; the lint finds what is wrong."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from drivers.profile import Block, Point, Profile, ProfileError, WriteLimit, lint_profile, load_profiles
from drivers.profile.schema import PATH, profile_schema

POLLED = {
    "raritan_px_xerus": {"volt_v", "current_a", "power_w", "apparent_va", "power_factor", "frequency_hz"},
    "janitza_umg96rm": {"power_w", "power_l1_w", "current_l3_a", "frequency_hz", "energy_import_wh", "volt_l1_v"},
    "schneider_pm5560": {"power_w", "apparent_va", "volt_l12_v", "current_l1_a", "frequency_hz"},
    "delta_rpu_orv3": {"flow_lpm", "supply_c", "return_c", "pump_pct", "pump4_rpm", "leak_flags"},
    "sunspec_battery": {"soc_pct", "soh_pct", "power_w", "state", "heartbeat", "energy_available_wh"},
}


def good(**changes: object) -> Profile:
    fields: dict[str, object] = {
        "name": "x",
        "title": "X",
        "protocol": "modbus",
        "source": "-",
        "trust": "memory",
        "blocks": (Block(first=10, last=19),),
        "points": (Point(name="power_w", unit="W", addr=10, min=0, max=60000, poll=True),),
    }
    return Profile.model_validate(fields | changes)


def point(**changes: object) -> Point:
    return Point.model_validate({"name": "a_w", "unit": "W", "addr": 10} | changes)


def test_packaged_profiles_load_clean_with_source_and_trust() -> None:
    profiles = load_profiles()
    for name, wanted in POLLED.items():
        assert wanted <= {p.name for p in profiles[name].polled()}
    for profile in profiles.values():
        assert profile.source
        assert lint_profile(profile) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"points": (point(), point(addr=12))}, "there are 2 of that name"),
        ({"points": (point(type="u32"), point(name="b_w", addr=11))}, "overlap at 11"),
        ({"points": (point(name="power"),)}, "ends in _w"),
        ({"points": (point(name="power_w", unit=""),)}, "the unit is missing"),
        ({"points": (point(unit="kW"),)}, "is not one of"),
        ({"points": (point(addr=19, type="f32"),)}, "lie in no block"),
        ({"points": (point(fc=4),)}, "lie in no block"),
        ({"points": (point(name="x_flags", unit="", bits={16: "far"}),)}, "flag bit"),
        ({"points": (point(missing=(70000,)),)}, "missing-value word"),
        ({"points": (point(max=5, write=WriteLimit(min=0, max=9)),)}, "not inside the range"),
        ({"points": (point(scale=0.1, write=WriteLimit(min=0, max=9000)),)}, "do not fit u16"),
        ({"points": (point(type="u32", write=WriteLimit(min=0, max=9, fc=6)),)}, "one register only"),
        ({"points": (point(scale_point="b"),)}, "scale point b"),
        ({"points": (point(min=5, max=5),)}, "is empty"),
        ({"points": (point(scale=0.0),)}, "scale of zero"),
        ({"blocks": ()}, "needs its blocks"),
        ({"blocks": (Block(first=10, last=19), Block(first=15, last=25))}, "overlap"),
        ({"blocks": (Block(first=19, last=10),)}, "empty or out of reach"),
        ({"blocks": (Block(first=10, last=19, constants={99: 1}),)}, "lies in no block"),
        ({"protocol": "dsx"}, "needs its topic"),
        ({"source": " "}, "give the source"),
        ({"points": (point(name="A_w"),)}, "lower-case"),
        ({"points": (point(name="supply_temperature", unit=""),)}, "the unit is missing"),
        ({"points": (point(name="supply_c", unit="C", min=-300, max=50),)}, "cannot be: nothing lies outside"),
        ({"points": (point(name="supply_c", unit="C", min=4000, max=5000),)}, "cannot be: nothing lies outside"),
        ({"points": (point(min=0, max=70000),)}, "max 70000.0 cannot be: u16"),
        ({"points": (point(scale=0.1, min=0, max=7000),)}, "reaches 0..6553.5"),
        ({"points": (point(type="s16", scale=-1.0, min=-40000),)}, "min -40000.0 cannot be: s16"),
        ({"points": (point(poll=True, min=0),)}, "needs its range"),
        ({"points": (point(name="x_flags", unit="", bits={1: "a", 2: "a"}),)}, "bit name a is given twice"),
        ({"points": (point(name="x_flags", unit="", type="f32", bits={1: "a"}),)}, "plain whole number"),
        ({"points": (point(name="x", unit="", states={1: "on", 2: "on"}),)}, "state name on is given twice"),
        ({"points": (point(name="x", unit="", max=3, states={5: "on"}),)}, "state 5 is outside"),
        ({"points": (point(name="x", unit="", bits={1: "a"}, states={1: "on"}),)}, "bits or states, not both"),
        ({"points": (Point(name="a_w", unit="W"),)}, "its address is missing"),
        ({"points": (point(name="on", unit="", type="bit"),)}, "type bit is read by"),
        ({"points": (point(fc=2),), "blocks": (Block(fc=2, first=10, last=19),)}, "type bit is read by"),
        ({"points": (point(missing=(5, 5)),)}, "given twice"),
        ({"points": (point(write=WriteLimit(min=0, max=1, fc=5)),)}, "does not write what function 3 reads"),
        ({"blocks": (Block(fc=1, first=0, last=2000),)}, "bits are read whole"),
        ({"blocks": (Block(model=7, first=1, last=9),)}, "from 0, its id word"),
        ({"blocks": (Block(model=7, first=0, last=9, constants={1: 5}),)}, "id and length are known"),
        ({"blocks": (Block(first=10, last=19, constants={10: 70000}),)}, "no word of a register"),
        ({"points": (point(model=7, addr=1),)}, "first two registers"),
        ({"points": (point(model=7, addr=5),)}, "missing lacks SunSpec's value"),
        ({"points": (point(scale_point="b"), point(name="b", unit="", type="s16", model=7, addr=9))}, "scale point b"),
    ],
)
def test_lint_finds(change: dict[str, object], says: str) -> None:
    assert any(says in text for text in lint_profile(good(**change))), lint_profile(good(**change))


def test_lint_passes_a_good_profile() -> None:
    assert lint_profile(good()) == []


@pytest.mark.parametrize(
    ("doc", "fc", "addr"),
    [(3060, 3, 3059), ("3x0900", 4, 899), ("4x0501", 3, 500), ("1x0001", 2, 0), ("0x00001", 1, 0)],
)
def test_the_makers_number_gives_table_and_address(doc: int | str, fc: int, addr: int) -> None:
    given = {"name": "a_w", "unit": "W", "doc": doc} | ({"type": "bit"} if fc < 3 else {})
    p = Point.model_validate(given)
    assert (p.fc, p.addr) == (fc, addr)
    assert Point.model_validate(p.model_dump()) == p
    assert "addr" in p.model_fields_set


@pytest.mark.parametrize(
    "wrong", [{"doc": 3060, "addr": 3060}, {"doc": "3x0900", "fc": 3}, {"doc": "5x01"}, {"doc": 0}]
)
def test_a_number_that_contradicts_the_address_is_an_error(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Point.model_validate({"name": "a_w", "unit": "W"} | wrong)


def test_a_fixed_point_scale_is_a_power_of_two() -> None:
    assert point(scale="Q10").scale == 1 / 1024
    assert point(scale="Q0").scale == 1.0
    with pytest.raises(ValidationError):
        point(scale="Q")


def test_a_device_set_to_another_word_order_has_a_profile_of_that_name() -> None:
    profiles = load_profiles()
    swapped = profiles["janitza_umg96rm@lo-hi"]
    assert swapped.name == "janitza_umg96rm@lo-hi"
    assert {p.words for p in swapped.points} == {"lo-hi"}
    assert swapped is profiles["janitza_umg96rm@lo-hi"]
    assert "janitza_umg96rm@lo-hi" in profiles
    assert "janitza_umg96rm@lo-hi" not in list(profiles)
    for wrong in ("janitza_umg96rm@", "janitza_umg96rm@big", "nothing@lo-hi", "dsx_rack@lo-hi", "nothing"):
        assert wrong not in profiles


def test_the_schema_for_editors_is_that_of_the_model_and_fits_every_file() -> None:
    assert PATH.read_text(encoding="utf-8") == profile_schema(), "run python -m drivers.profile.schema"
    validator = Draft202012Validator(json.loads(profile_schema()))
    files = sorted(PATH.parent.glob("*.yaml"))
    assert len(files) > 15
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert text.startswith("# yaml-language-server: $schema=profile.schema.json\n")
        data = json.loads(json.dumps(yaml.load(text, Loader=yaml.CSafeLoader)))
        assert list(validator.iter_errors(data)) == [], file.name
    assert list(validator.iter_errors({"name": "x", "points": [{"nam": "y"}]}))


@pytest.mark.parametrize("text", ["bits: {1: a, 1: b}", "name: x\nname: y", "points: [{name: a, name: b}]"])
def test_a_key_that_is_given_twice_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ProfileError, match="given twice"):
        load_profiles(tmp_path)


def test_loading_lists_every_problem_of_every_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: a\ntitle: A\n")
    (tmp_path / "b.yaml").write_text("name: [")
    text = good().model_dump_json(exclude_defaults=True)
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ProfileError) as caught:
        load_profiles(tmp_path)
    message = str(caught.value)
    assert "a.yaml: protocol" in message
    assert "b.yaml: not YAML" in message
    assert "c.yaml: the profile is named x" in message
