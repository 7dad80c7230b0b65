"""Reading a site: what is written is read back, and whatever else stands in the files ends in a list of problems."""

import csv
import io
from pathlib import Path

import pytest
from helpers_site import edit_cell, tiny_site
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.check import check_path
from drivers.profile import load_profiles
from drivers.site.load import find_site, load_site, read_draft, resolve_site
from drivers.site.model import Generator, Site
from drivers.site.problems import Problem, SiteError
from drivers.site.reference import hall
from drivers.site.write import TABLES, site_files, write_site


def bare(site: Site) -> Site:
    """Without the lines it was read from."""
    return site.model_copy(update={"where": {}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_site(tiny_site(), tmp_path)
    return tmp_path


def problems_of(folder: Path) -> list[Problem]:
    with pytest.raises(SiteError) as caught:
        load_site(folder)
    return caught.value.problems


def test_written_site_reads_back_equal(folder: Path) -> None:
    site = load_site(folder)
    assert bare(site) == tiny_site()
    assert site.where["racks/r3"] == "racks.csv:4"
    assert site.where["site/control.envelope_w"] == "site.yaml:4"


def test_off_is_a_word(folder: Path) -> None:
    path = folder / "site.yaml"
    path.write_text(path.read_text().replace("  shed: down", "  shed: off"))
    assert load_site(folder).control.shed == "off"


def test_comments_blank_lines_and_byte_order_mark(folder: Path) -> None:
    path = folder / "jobs.csv"
    path.write_text("\ufeff" + path.read_text().replace("serve", "# two jobs, really\n\n serve ", 1))
    site = load_site(folder)
    assert bare(site) == tiny_site()
    assert site.where["jobs/serve"] == "jobs.csv:5"


def test_line_of_a_row_after_a_quoted_newline(folder: Path) -> None:
    path = folder / "jobs.csv"
    path.write_text(path.read_text().replace(",a\n", ',"a\nb"\n', 1))
    assert load_site(folder).where["jobs/serve"] == "jobs.csv:4"


CELLS = (
    ("nodes", "u1", "rating", "lots", "rating is 'lots'", "Write a finite number"),
    ("nodes", "u1", "rating", "nan", "rating is 'nan'", "Write a finite number"),
    ("nodes", "u1", "rating", "-1", "rating is -1", "It must be greater than 0.0"),
    ("nodes", "u1", "rating", "", "rating is missing", "Give a value"),
    ("nodes", "u1", "kind", "upss", "kind is 'upss'", "Did you mean 'ups'?"),
    ("nodes", "u1", "rating_unit", "kVA", "rating_unit is 'kVA'", "Did you mean 'VA'?"),
    ("racks", "r1", "gpus", "6.5", "gpus is '6.5'", "Write a whole number"),
    ("racks", "r1", "liquid_share", "75", "liquid_share is 75", "It must be at most 1.0"),
    ("cooling", "pump3", "standby", "perhaps", "standby is 'perhaps'", "Write true or false"),
    ("loops", "loop1", "supply_c", "inf", "supply_c is 'inf'", "Write a finite number"),
)


@pytest.mark.parametrize(("table", "row", "column", "value", "what", "fix"), CELLS)
def test_bad_cell(folder: Path, table: str, row: str, column: str, value: str, what: str, fix: str) -> None:
    where = edit_cell(folder, table, row, column, value)
    (problem,) = problems_of(folder)
    assert problem.where == where
    assert (problem.what, problem.fix) == (what, fix)


def change(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


FILES = (
    ("jobs.csv", "id,kind", "id,knid", ["1: column 'knid' is unknown. Did", "1: column 'kind' is missing. Add it"]),
    ("jobs.csv", "tenant", "id", ["1: column 'id' stands 2 times. Keep one"]),
    ("jobs.csv", "training,a", "training", ["2: 2 cells for 3 columns. Give every column a cell"]),
    ("jobs.csv", "training,a", 'training,"a', ["2: broken CSV (unexpected end of data). Check the quotes"]),
    ("site.yaml", "name: tiny", "name: [tiny", ["2: broken YAML (expected ',' or ']', but got ':'). Mend this line"]),
    ("site.yaml", "name: tiny\n", "", ["1: name is missing. Write a text"]),
    ("site.yaml", "name: tiny", "name: 7", ["1: name is 7. Write a text"]),
    ("site.yaml", "title:", "titel: x\ntitle:", ["2: key 'titel' is unknown. Did you mean 'title'?"]),
    ("site.yaml", "title:", "name: x\ntitle:", ["2: key 'name' stands twice. Remove one"]),
    ("site.yaml", "envelope_w: 330000", "envelope_w: 0", ["4: control: envelope_w is 0. It must be greater than 0.0"]),
    (
        "site.yaml",
        "envelope_w: ",
        "envelop_w: ",
        ["3: control: envelope_w is missing. Give", "4: control: envelop_w is"],
    ),
    ("site.yaml", "  latency_s: 0.2", "  latency_s: soon", [": actuators.inband: latency_s is 'soon'. Write a finite"]),
    ("site.yaml", "assumptions: []", "assumptions: none", ["assumptions is no list of texts. Write one"]),
)


@pytest.mark.parametrize(("name", "old", "new", "found"), FILES)
def test_bad_file(folder: Path, name: str, old: str, new: str, found: list[str]) -> None:
    change(folder, name, old, new)
    problems = problems_of(folder)
    assert len(problems) == len(found), problems
    for problem, text in zip(problems, found, strict=True):
        assert problem.file == name
        assert text in str(problem)


def test_missing_and_unknown_files(folder: Path) -> None:
    (folder / "racks.csv").rename(folder / "rack.csv")
    (folder / "loops.csv").write_text("id,supply_c,return_max_c,flow_lpm,volume_l\n")
    assert [str(p) for p in problems_of(folder)] == [
        "racks.csv:1: file is missing. Every site has such a table",
        "loops.csv:1: no rows. A site needs at least one",
        "rack.csv:1: there is no such table. Did you mean 'racks'?",
    ]


def test_no_site_yaml(folder: Path) -> None:
    (folder / "site.yaml").unlink()
    assert str(problems_of(folder)[0]).startswith("site.yaml:1: file is missing.")
    (missing,) = check_path(folder, load_profiles())  # and no rule finds a second mistake in what stands for it
    assert missing == problems_of(folder)[0]
    with pytest.raises(SiteError):
        load_site(folder)


def test_all_problems_at_once(folder: Path) -> None:
    where = [edit_cell(folder, "nodes", f"u{i}", "rating", "x") for i in (1, 2)]
    where += [edit_cell(folder, "racks", "r2", c, "x") for c in ("gpus", "max_w")]
    assert [p.where for p in problems_of(folder)] == where


def test_not_text(folder: Path) -> None:
    (folder / "jobs.csv").write_bytes(b"id,kind\n\xff\xfe,training\n")
    (folder / "site.yaml").write_bytes(b"name: \xff\n")
    assert {p.file for p in problems_of(folder)} == {"jobs.csv", "site.yaml"}


GENERATOR = Generator(id="gen1", start_s=10, ramp_w_per_s=1000)
FILES_OF_TINY = site_files(tiny_site(generators=(GENERATOR,)))  # a row in every table
TEXT = st.text(max_size=12) | st.sampled_from(["", "nan", "-1", "1e999", "0", "|", "'", '"', "x,y", "\x00", "#", "u1"])


@settings(deadline=None)
@given(table=st.sampled_from(sorted(TABLES)), row=st.integers(0), column=st.integers(0), value=TEXT)
def test_a_changed_cell_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, table: str, row: int, column: int, value: str
) -> None:
    folder = tmp_path_factory.mktemp("site")
    for name, text in FILES_OF_TINY.items():
        (folder / name).write_text(text)
    rows = list(csv.reader(io.StringIO(FILES_OF_TINY[f"{table}.csv"])))
    cells = rows[row % len(rows)]
    cells[column % len(cells)] = value
    raw = "\n".join(",".join(r) for r in rows)  # unquoted, as an editor would
    (folder / f"{table}.csv").write_bytes(raw.encode("utf-8", "surrogatepass"))
    problems = read_draft(folder).problems
    assert all(p.what and p.fix and p.line >= 1 for p in problems)
    if problems:
        with pytest.raises(SiteError):
            load_site(folder)
    else:
        load_site(folder)


@settings(deadline=None)
@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda b: b.decode("latin-1")))
def test_any_yaml_never_crashes(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("site")
    (folder / "site.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(SiteError):
        load_site(folder)


def test_find_and_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = find_site("hall")
    assert shipped is not None
    assert shipped.parts[-3:] == ("deploy", "sites", "hall")
    assert bare(resolve_site("hall")) == hall()
    monkeypatch.setattr("drivers.site.load.EMBEDDED", tmp_path)  # an installation without deploy/
    assert find_site("hall") is None
    assert resolve_site("hall") == hall()
    write_site(tiny_site(), tmp_path / "hall")
    monkeypatch.chdir(tmp_path)  # one's own directory wins over the built-in name
    assert resolve_site("hall").name == "tiny"
    with pytest.raises(SiteError, match=r"halle: there is no such site. Did you mean 'hall'\?"):
        resolve_site("halle")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SiteError, match=r"site.yaml:1: file is missing"):
        resolve_site(tmp_path / "empty")
