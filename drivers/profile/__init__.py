"""Device profiles: what a device shows and accepts, as data in ../profiles/*.yaml, one file per device."""

from drivers.profile.kinds import STANDS_AT, measured_kind
from drivers.profile.lint import lint_profile
from drivers.profile.load import ProfileError, Profiles, load_profiles
from drivers.profile.model import (
    BITS,
    RAW_RANGE,
    UNITS,
    WORDS,
    Block,
    Keys,
    Point,
    Profile,
    Revert,
    Text,
    Trust,
    WriteLimit,
)

__all__ = [
    "BITS",
    "RAW_RANGE",
    "STANDS_AT",
    "UNITS",
    "WORDS",
    "Block",
    "Keys",
    "Point",
    "Profile",
    "ProfileError",
    "Profiles",
    "Revert",
    "Text",
    "Trust",
    "WriteLimit",
    "lint_profile",
    "load_profiles",
    "measured_kind",
]
