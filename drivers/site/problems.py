"""Problems of a site's files in plain words: where, what is wrong, what to do."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from pydantic import BaseModel
from pydantic_core import ErrorDetails

BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
UNREAD = "(unread)"  # stands for a name that could not be read: using it is no second mistake
NUMBERS = ("float_parsing", "float_type", "int_parsing", "int_type", "int_from_float", "finite_number")


@dataclass(frozen=True)
class Problem:
    """Something wrong in a site's files: where (`file:line`), what, and what to do."""

    where: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.fix}"

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.where.rpartition(":")[0] or self.where

    @property
    def line(self) -> int:
        """Line in the file, from 1; 1 if the problem is the file itself."""
        line = self.where.rpartition(":")[2]
        return int(line) if line.isdigit() else 1


class SiteError(Exception):
    """The site's files cannot be used; `problems` lists every reason."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """`Did you mean 'x'?` for the nearest known name, or `otherwise`."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"Did you mean '{near[0]}'?" if near else otherwise


def words(error: ErrorDetails, model: type[BaseModel]) -> tuple[str, str]:
    """A pydantic error in plain words: what is wrong, what to do."""
    name = str(error["loc"][0]) if error["loc"] else ""
    value, context, kind = error.get("input"), error.get("ctx", {}), error["type"]
    if kind == "missing":
        return f"{name} is missing", "Give a value"
    if kind == "extra_forbidden":
        return f"{name} is unknown here", did_you_mean(
            name, model.model_fields, f"Known: {', '.join(model.model_fields)}"
        )
    if kind in BOUNDS:
        key, sign = BOUNDS[kind]
        return f"{name} is {value}", f"It must be {sign} {context[key]}"
    if kind == "literal_error":
        expected = str(context.get("expected", ""))
        choices = [c.strip("' ") for c in expected.replace(" or ", ",").split(",")]
        return f"{name} is {value!r}", did_you_mean(str(value), choices, f"It must be {expected}")
    if kind in NUMBERS:
        return f"{name} is {value!r}", f"Write a {'whole' if kind.startswith('int') else 'finite'} number"
    if kind.startswith("bool"):
        return f"{name} is {value!r}", "Write true or false"
    return f"{name} is {value!r}", error["msg"]
