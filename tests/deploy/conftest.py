"""promtool and prometheus for the tests of deploy/."""

import pytest

from tests.deploy.prometheus_tools import PrometheusTools, ToolsMissingError, find_tools


@pytest.fixture(scope="session")
def tools() -> PrometheusTools:
    """The programs; where they cannot be had, the tests that need them are skipped and say why."""
    try:
        return find_tools()
    except ToolsMissingError as error:
        pytest.skip(str(error))
