"""Write a site as files: site.yaml for the few, one CSV table for each of the many."""

import csv
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from drivers.site.model import (
    Cdu,
    CoolingUnit,
    Device,
    Gateway,
    Generator,
    Job,
    Load,
    Loop,
    Node,
    Rack,
    Site,
    SiteModel,
    Storage,
    Switch,
    Tenant,
)

TABLES: dict[str, type[SiteModel]] = {
    "nodes": Node,
    "racks": Rack,
    "jobs": Job,
    "tenants": Tenant,
    "cdus": Cdu,
    "loops": Loop,
    "cooling": CoolingUnit,
    "loads": Load,
    "storage": Storage,
    "generators": Generator,
    "switches": Switch,
    "gateways": Gateway,
    "devices": Device,
}


def cell(value: object) -> str:
    """One value as a CSV cell: ids joined by `|`, whole numbers without a point, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return "|".join(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


def table_text(model: type[SiteModel], rows: tuple[BaseModel, ...]) -> str:
    """A table as CSV; a column that is at its default in every row is left out."""
    columns = [
        name
        for name, info in model.model_fields.items()
        if info.is_required() or any(getattr(row, name) != info.default for row in rows)
    ]
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell(getattr(row, name)) for name in columns] for row in rows)
    return out.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    return value


def site_files(site: Site) -> dict[str, str]:
    """File name -> text of a site's directory."""
    head: dict[str, Any] = {"name": site.name, "title": site.title}
    head["control"] = _plain(site.control.model_dump())
    head["mqtt"] = _plain(site.mqtt.model_dump())
    head["actuators"] = {name: _plain(a.model_dump()) for name, a in site.actuators.items()}
    head["assumptions"] = list(site.assumptions)
    files = {"site.yaml": yaml.safe_dump(head, sort_keys=False, width=118, allow_unicode=True)}
    for table, model in TABLES.items():
        rows = getattr(site, table)
        if rows:
            files[f"{table}.csv"] = table_text(model, rows)
    return files


def write_site(site: Site, folder: Path) -> None:
    """Write the site's files into a folder, which is made if need be. OSError if that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in site_files(site).items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
