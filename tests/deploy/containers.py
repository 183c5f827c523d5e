"""docker-compose.yml, the Dockerfiles and the Kubernetes manifests as data, and the settings that they may name."""

import copy
import functools
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from handlers.settings import Limits
from service.settings import Settings
from tests.deploy.prometheus_tools import ROOT

COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILES = sorted((ROOT / "deploy" / "docker").glob("*.Dockerfile"))
KUBERNETES = ROOT / "deploy" / "kubernetes"
OWN_USER = "10001:10001"

# What the processes in the containers read: the service, the worker's limits, and nothing else.
SETTINGS = {f"WHYLIGHT_{name.upper()}" for name in (*Settings.model_fields, *Limits.__dataclass_fields__)}
_DEFAULT = re.compile(r"\$\{(\w+):-([^}]*)\}")


@functools.cache
def _compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(_DEFAULT.sub(r"\2", COMPOSE.read_text()))
    return loaded


def compose() -> dict[str, Any]:
    """docker-compose.yml with the defaults of its variables; a copy that may be changed."""
    return copy.deepcopy(_compose())


def services(*names: str) -> dict[str, dict[str, Any]]:
    """The services of docker-compose.yml of these names, or all."""
    found: dict[str, dict[str, Any]] = compose()["services"]
    return {name: each for name, each in found.items() if not names or name in names}


def manifests() -> list[dict[str, Any]]:
    """Every resource of the base, as it is written."""
    files = sorted((KUBERNETES / "base").glob("*.yaml"))
    loaded = [each for file in files for each in yaml.safe_load_all(file.read_text())]
    return [each for each in loaded if each["kind"] != "Kustomization"]


def resource(kind: str) -> dict[str, Any]:
    """The first one of a kind."""
    return next(each for each in manifests() if each["kind"] == kind)


def pod() -> dict[str, Any]:
    """What a pod of the deployment is."""
    found: dict[str, Any] = resource("Deployment")["spec"]["template"]["spec"]
    return found


def containers() -> dict[str, dict[str, Any]]:
    """The containers of a pod, sidecars first."""
    return {each["name"]: each for each in (*pod()["initContainers"], *pod()["containers"])}


def rendered(folder: str) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send."""
    done = subprocess.run([program("kubectl"), "kustomize", KUBERNETES / folder], capture_output=True, check=True)
    return list(yaml.safe_load_all(done.stdout))


def program(name: str) -> Path:
    """A program of the extra `dev`, beside this Python."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found, f"{name} is not installed: make test does that"
    return Path(found)
