"""Collects problems of a site: knows the line of every row and which names exist."""

from collections.abc import Collection, Iterable

from drivers.site.model import Site
from drivers.site.problems import UNREAD, Problem, did_you_mean

SUGGESTIONS = 50  # a search among thousands of names takes tens of milliseconds


class Report:
    """Problems so far; `unread` are ids whose rows are broken, so that naming them is no second mistake."""

    def __init__(self, site: Site, unread: Collection[str] = ()) -> None:
        self.site, self.unread = site, frozenset(unread)
        self.problems: list[Problem] = []
        self._suggestions: dict[tuple[str, str], str] = {}

    def where(self, table: str, name: str) -> str:
        """`file:line` of a row, or of the file's first line if the site was not read from files."""
        file = "site.yaml" if table == "site" else f"{table}.csv"
        return self.site.where.get(f"{table}/{name}", f"{file}:1")

    def note(self, table: str, name: str, what: str, fix: str) -> None:
        """A problem of a row (or key, with table `site`)."""
        self.problems.append(Problem(self.where(table, name), what, fix))

    def known(self, at: tuple[str, str], what: str, name: str, names: Collection[str], of: str) -> bool:
        """Whether `name` is one of `names`; if not, a problem of row `at`. `what` says whose name it is."""
        if name in names or name == UNREAD:
            return True
        if name not in self.unread:
            self.note(*at, f"{what} '{name}' is not in {of}", self._suggest(name, names, of))
        return False

    def known_all(self, at: tuple[str, str], what: str, found: Iterable[str], names: Collection[str], of: str) -> None:
        """As `known`, for several names."""
        for name in found:
            self.known(at, what, name, names, of)

    def _suggest(self, name: str, names: Collection[str], of: str) -> str:
        otherwise = f"Add it to {of} or correct the name"
        if (name, of) not in self._suggestions and len(self._suggestions) < SUGGESTIONS:
            self._suggestions[name, of] = did_you_mean(name, names, otherwise)
        return self._suggestions.get((name, of), otherwise)
