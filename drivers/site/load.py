"""Read a site's directory: site.yaml and one CSV table each for the many; all problems, with file and line."""

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from drivers.site.head import read_head
from drivers.site.model import Actuator, Site, SiteModel
from drivers.site.problems import Problem, SiteError, did_you_mean, words
from drivers.site.reference import SITES
from drivers.site.write import TABLES

MUST_HAVE_ROWS = ("nodes", "racks", "cdus", "loops", "cooling", "devices")
EMBEDDED = Path(__file__).parents[2] / "deploy" / "sites"


@dataclass
class Draft:
    """What could be read: a site without its broken rows and with stand-ins in its head, and every problem."""

    site: Site | None = None
    problems: list[Problem] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)  # ids whose rows are broken: naming them is no second mistake
    where: dict[str, str] = field(default_factory=dict)  # as in Site


class Table:
    """One CSV file on its way into the draft."""

    def __init__(self, name: str, model: type[SiteModel], draft: Draft) -> None:
        self.name, self.model, self.draft = name, model, draft
        self.rows: list[SiteModel] = []

    def note(self, line: int, what: str, fix: str) -> None:
        """A problem of this file."""
        self.draft.problems.append(Problem(f"{self.name}.csv:{line}", what, fix))

    def read(self, path: Path) -> None:
        """All rows; lines that start with # are comments."""
        line = 1
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.reader(file, strict=True)
                header = self.header(next(reader, []))
                line = reader.line_num + 1
                for cells in reader:
                    if cells and not cells[0].startswith("#"):
                        self.row(line, header, cells)
                    line = reader.line_num + 1
        except UnicodeDecodeError as error:
            self.note(line, f"not UTF-8 ({error.reason})", "Save the file as UTF-8")
        except csv.Error as error:
            self.note(line, f"broken CSV ({error})", "Check the quotes")
        except OSError as error:
            self.note(line, f"cannot be read ({error.strerror})", "Check the file")

    def header(self, cells: list[str]) -> list[str]:
        """The column names, checked."""
        names, known = [c.strip() for c in cells], self.model.model_fields
        for name, times in Counter(names).items():
            if times > 1:
                self.note(1, f"column {name!r} stands {times} times", "Keep one")
            if name not in known:
                self.note(1, f"column {name!r} is unknown", did_you_mean(name, known, f"Known: {', '.join(known)}"))
        for name, info in known.items():
            if info.is_required() and name not in names:
                self.note(1, f"column {name!r} is missing", "Add it: every row needs a value")
        return names

    def row(self, line: int, header: list[str], cells: list[str]) -> None:
        """One row: kept, or its problems noted; an empty cell is the column's default."""
        if len(cells) != len(header):
            self.draft.unread.add(cells[0].strip())
            fix = "Give every column a cell, and quote a cell that contains a comma"
            self.note(line, f"{len(cells)} cells for {len(header)} columns", fix)
            return
        known = self.model.model_fields
        values = {k: v.strip() for k, v in zip(header, cells, strict=True) if k in known and v.strip()}
        key = f"{self.name}/{values.get('id', '')}"
        first = self.draft.where.setdefault(key, f"{self.name}.csv:{line}")
        if "id" in values and first != f"{self.name}.csv:{line}":
            self.note(line, f"id '{values['id']}' stands already in {first}", "Rename or remove one")
            return
        try:
            self.rows.append(self.model.model_validate(values))
        except ValidationError as error:
            self.draft.unread.add(values.get("id", ""))
            for detail in error.errors(include_url=False):
                if detail["type"] != "missing" or detail["loc"][0] in header:
                    self.note(line, *words(detail, self.model))


def _check_files(folder: Path, draft: Draft) -> None:
    """Tables that are missing, empty or unknown."""
    complained = {p.where.partition(":")[0] for p in draft.problems}
    for name in MUST_HAVE_ROWS:
        if not (folder / f"{name}.csv").exists():
            draft.problems.append(Problem(f"{name}.csv:1", "file is missing", "Every site has such a table"))
        elif f"{name}.csv" not in complained and not any(w.startswith(f"{name}/") for w in draft.where):
            draft.problems.append(Problem(f"{name}.csv:1", "no rows", "A site needs at least one"))
    for path in sorted(folder.glob("*.csv")):
        if path.stem not in TABLES:
            hint = did_you_mean(path.stem, TABLES, f"Known: {', '.join(TABLES)}")
            draft.problems.append(Problem(f"{path.name}:1", "there is no such table", hint))


def read_draft(folder: Path) -> Draft:
    """Everything that can be read of a site, with every problem on the way; raises nothing."""
    draft = Draft()
    head = read_head(folder / "site.yaml")
    draft.problems += head.problems
    draft.unread |= head.unread
    draft.where.update({f"site/{key}": f"site.yaml:{line}" for key, line in head.lines.items()})
    tables: dict[str, Any] = {}
    for name, model in TABLES.items():
        table = Table(name, model, draft)
        if (folder / f"{name}.csv").exists():
            table.read(folder / f"{name}.csv")
        tables[name] = tuple(table.rows)
    _check_files(folder, draft)
    if not head.actuators and not head.unread:  # said once, not for every rack
        head.actuators = {rack.actuator: Actuator(latency_s=0, settle_s=1) for rack in tables["racks"]}
    draft.site = Site.model_construct(
        None,
        name=head.name,
        title=head.title,
        assumptions=head.assumptions,
        control=head.control,
        mqtt=head.mqtt,
        actuators=head.actuators,
        where=draft.where,
        **tables,
    )
    return draft


def load_site(folder: Path | str) -> Site:
    """The site of a directory. SiteError with every problem of its files (cross-checks: drivers.check)."""
    draft = read_draft(Path(folder))
    if draft.problems or draft.site is None:
        raise SiteError(draft.problems)
    return draft.site


def find_site(name_or_path: str | Path) -> Path | None:
    """The directory of a site given as path or built-in name; None if a built-in one is not shipped as files.

    SiteError if there is neither. A directory wins over a built-in site of the same name.
    """
    path, name = Path(name_or_path), str(name_or_path)
    if (path / "site.yaml").exists():
        return path
    if name in SITES:
        shipped = EMBEDDED / name
        return shipped if (shipped / "site.yaml").exists() else None
    if path.is_dir():
        return path  # reading it will say what is missing
    hint = did_you_mean(name, SITES, f"Give a directory with a site.yaml, or {_either(SITES)}")
    raise SiteError([Problem(name, "there is no such site", hint)])


def _either(names: Iterable[str]) -> str:
    return " or ".join(f"'{n}'" for n in sorted(names))


def resolve_site(name_or_path: str | Path) -> Site:
    """The site of a directory or a built-in name (`hall`, `colossus`). SiteError as load_site."""
    path = find_site(name_or_path)
    return SITES[str(name_or_path)]() if path is None else load_site(path)
