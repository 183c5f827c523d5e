"""The stock clients' own environment: they want other versions of protobuf and psutil than the service."""

import sys
from pathlib import Path

import pytest

PYTHON = Path(sys.prefix) / "clients" / "bin" / "python"  # made by `make test`
COMPLETE = Path(sys.prefix) / ".clients"
HERE = Path(__file__).parent
SCRIPTS = [HERE / "triton.py", HERE / "kserve_client.py"]

needs_stock_clients = pytest.mark.skipif(
    not COMPLETE.exists(), reason="the stock clients are not installed: `make test` does it where there is an index"
)
