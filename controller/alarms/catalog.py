"""The rationalised list of alarms, from alarms.yaml: what each means, how bad it is and what to do about it."""

from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Priority = Literal["critical", "high", "medium", "low"]
PRIORITIES: tuple[Priority, ...] = ("critical", "high", "medium", "low")
Seconds = Annotated[float, Field(ge=0, le=3600)]


class Kind(BaseModel):
    """One alarm of the list; `rank` is its place there: causes stand before consequences."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str = ""
    rank: int = 0
    priority: Priority
    cause: str
    consequence: str
    response: str
    on_delay_s: Seconds = 0.0
    off_delay_s: Seconds = 0.0
    deadband: Annotated[float, Field(ge=0, lt=1)] = 0.0
    latched: bool = False
    suppresses: tuple[str, ...] = ()


Catalog = dict[str, Kind]


def parse(text: str) -> Catalog:
    """A catalog by code; ValueError names an entry that is wrong or suppresses what there is not."""
    given = TypeAdapter(dict[str, Kind]).validate_python(yaml.safe_load(text))
    for code, kind in given.items():
        if unknown := [x for x in kind.suppresses if x not in given or x == code]:
            raise ValueError(f"{code} suppresses {', '.join(unknown)}: not another alarm of the list")
    return {c: k.model_copy(update={"code": c, "rank": i}) for i, (c, k) in enumerate(given.items())}


@cache
def catalog() -> Catalog:
    """The list that the controller ships with."""
    return parse(files(__package__).joinpath("alarms.yaml").read_text(encoding="utf-8"))
