"""How many connections there may be."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from sidecar.server.descriptors import MOST, RESERVED, most_connections


@pytest.mark.parametrize(
    ("wanted", "descriptors", "most", "is_told"),
    [
        pytest.param(0, 1024, 1024 - RESERVED, False, id="as many as there may be"),
        pytest.param(100, 1024, 100, False, id="fewer"),
        pytest.param(1024 - RESERVED, 1024, 1024 - RESERVED, False, id="the most"),
        pytest.param(1024, 1024, 1024 - RESERVED, True, id="more than there may be"),
        pytest.param(0, 256, 128, False, id="of few descriptors half"),
        pytest.param(0, 2**30, MOST, False, id="of a billion no more than memory holds"),
        pytest.param(100_000, 2**30, 100_000, False, id="unless that is wanted"),
        pytest.param(0, -1, MOST, False, id="of descriptors without a limit"),
    ],
)
def test_connections_leave_descriptors_for_everything_else(
    wanted: int, descriptors: int, most: int, is_told: bool
) -> None:
    with capture_logs() as logs:
        assert most_connections(wanted, descriptors) == most
    assert [entry["event"] for entry in logs] == ["max_connections_lowered"] * is_told
