"""placeholder"""

from pathlib import Path
from typing import Any


def write_report(path: Path, site: Any, summary: dict[str, Any], cases: Any) -> None:
    """x"""
