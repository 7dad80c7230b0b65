"""The API against its own description: whatever is sent, the answer is one that the description knows."""

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from helpers_console import Served, Stand
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from controller.console.accounts import Role
from controller.console.desk import desk
from drivers.clock import RealClock

pytestmark = pytest.mark.usefixtures("warm_kernels")
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
    negative_data_rejection,
]  # fmt: skip
EXAMPLES = 10
LEFT_OUT = {"/v1/me/password", "/v1/logout", "/v1/tokens"}  # they take away what the test signs in with
PLENTY = 20  # operations: fewer would mean that the description has lost some


def test_no_request_brings_an_answer_that_is_not_described(tmp_path: Path) -> None:
    with Stand(tmp_path) as stand:
        at = desk(stand.cycles.site, tmp_path, RealClock())
        at.accounts.first_password()
        headers = {"Authorization": f"Bearer {at.accounts.new_token('admin', Role.ENGINEER)}"}
        with Served(at) as served:
            schema = schemathesis.openapi.from_url(f"{served.url}/v1/openapi.json")
            operations = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]
            tried = [x for x in operations if x.path not in LEFT_OUT]
            for operation in tried:
                probe(operation, headers)
    assert len(tried) >= PLENTY


def probe(operation: Any, headers: dict[str, str]) -> None:
    """Some requests to one operation, good ones and bad ones."""
    kinds = operation.as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE) | operation.as_strategy(
        generation_mode=schemathesis.GenerationMode.NEGATIVE
    )

    @settings(max_examples=EXAMPLES, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(kinds)
    def one(case: Any) -> None:
        case.validate_response(case.call(headers=headers), checks=CHECKS)

    one()
