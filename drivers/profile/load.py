"""Profiles from files: all of a folder, with every problem of every file said at once."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from drivers.profile.lint import lint_profile
from drivers.profile.model import Profile

FOLDER = Path(__file__).parent.parent / "profiles"


class ProfileError(ValueError):
    """Profiles that cannot be used; the message lists every problem of every file."""


def load_profiles(directory: Path | None = None) -> dict[str, Profile]:
    """Every profile of a folder (the packaged one unless told) by name; ProfileError with all problems."""
    profiles: dict[str, Profile] = {}
    problems: list[str] = []
    for path in sorted((directory or FOLDER).glob("*.yaml")):
        try:
            profile = Profile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
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
