"""Profiles from files: all of a folder, with every problem of every file said at once."""

from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from drivers.profile.lint import lint_profile
from drivers.profile.model import Profile, WordOrder

FOLDER = Path(__file__).parent.parent / "profiles"


class ProfileError(ValueError):
    """Profiles that cannot be used; the message lists every problem of every file."""


class Profiles(dict[str, Profile]):
    """Profiles by name. `NAME@ORDER` is that profile on a device set to another word order: janitza_umg96rm@lo-hi."""

    def __init__(self) -> None:
        super().__init__()
        self._set: dict[str, Profile] = {}

    def __missing__(self, name: str) -> Profile:
        base, _, order = name.partition("@")
        if order not in get_args(WordOrder) or not dict.__contains__(self, base) or self[base].protocol != "modbus":
            raise KeyError(name)
        if name not in self._set:
            points = tuple(p.model_copy(update={"words": order}) for p in self[base].points)
            self._set[name] = self[base].model_copy(update={"name": name, "points": points})
        return self._set[name]

    def __contains__(self, name: object) -> bool:
        try:
            return bool(self[str(name)])
        except KeyError:
            return False


class _Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """YAML in which a key that is given twice is an error: the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are all different."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for i, key in enumerate(keys) if key in keys[:i]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"{twice} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]


def load_profiles(directory: Path | None = None) -> Profiles:
    """Every profile of a folder (the packaged one unless told) by name; ProfileError with all problems."""
    profiles = Profiles()
    problems: list[str] = []
    for path in sorted((directory or FOLDER).glob("*.yaml")):
        try:
            text = path.read_text(encoding="utf-8")
            profile = Profile.model_validate(yaml.load(text, Loader=_Loader))  # noqa: S506  (a safe loader)
        except yaml.YAMLError as error:
            problems.append(f"{path.name}: not YAML: {error}")
            continue
        except ValidationError as error:
            problems += [f"{path.name}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            continue
        if profile.name != path.stem:
            problems.append(f"{path.name}: the profile is named {profile.name}; name it {path.stem}")
        problems += [f"{path.name}: {text}" for text in lint_profile(profile)]
        profiles[profile.name] = profile
    if problems:
        raise ProfileError("\n".join(problems))
    return profiles
