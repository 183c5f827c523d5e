"""Stands in for Java: listens where config.properties says, and does what WHYLIGHT_TEST_JAVA says."""

import os
import socket
import sys
import time
from pathlib import Path

behaviour = os.environ.get("WHYLIGHT_TEST_JAVA", "serve")
if behaviour == "exit":
    sys.exit("ERROR Fake port is taken")
if behaviour == "hang":
    time.sleep(600)
lines = Path(sys.argv[sys.argv.index("-f") + 1]).read_text().splitlines()
entries = dict(line.split("=", 1) for line in lines)
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(entries["management_address"].removeprefix("unix:"))
    listener.listen()
    Path("key_file.json").write_text('{"inference": {"key": "i"}, "management": {"key": "m"}}')
    if behaviour == "short":
        time.sleep(0.2)
        sys.exit(5)
    time.sleep(600)
