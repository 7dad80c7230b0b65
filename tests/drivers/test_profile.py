"""Profiles as data: the packaged ones are clean and say where they come from; the lint finds what is wrong."""

from pathlib import Path

import pytest

from drivers.profile import Block, Point, Profile, ProfileError, WriteLimit, lint_profile, load_profiles

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
    ],
)
def test_lint_finds(change: dict[str, object], says: str) -> None:
    assert any(says in text for text in lint_profile(good(**change))), lint_profile(good(**change))


def test_lint_passes_a_good_profile() -> None:
    assert lint_profile(good()) == []


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
