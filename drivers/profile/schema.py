"""The JSON schema of profile files, for editors: `python -m drivers.profile.schema` writes it anew."""

import json

from drivers.profile.load import FOLDER
from drivers.profile.model import Profile

PATH = FOLDER / "profile.schema.json"


def profile_schema() -> str:
    """The schema as text, made from the model."""
    schema = Profile.model_json_schema(mode="validation")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=1) + "\n"


if __name__ == "__main__":
    PATH.write_text(profile_schema(), encoding="utf-8")
