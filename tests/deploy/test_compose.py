"""docker-compose.yml is well formed, and gives nobody more than they need."""

import json
import re
from typing import Any

import pytest
from compose_spec import PyCompose

from service import probe
from service.worker_command import INFERENCE, KEYS, MANAGEMENT
from tests.deploy.containers import COMPOSE, OWN_USER, SETTINGS, compose, services
from tests.deploy.prometheus_tools import ROOT, PrometheusTools
from tests.deploy.queries import DASHBOARDS

WORKERS = ("torchserve-cpu", "torchserve-cuda")
SHARED = "/run/whylight"
ALL = pytest.mark.parametrize("service", services().values(), ids=services().keys())


def test_it_is_a_compose_file() -> None:
    """By the specification; and every volume, network and secret that a service names is declared."""
    PyCompose.from_json(json.dumps(compose())).validate()
    assert set(services()) == {"whylight", *WORKERS, "prometheus", "grafana"}


def test_the_compose_specification_refuses_what_it_does_not_know() -> None:
    """So that the test above can fail."""
    broken = compose()
    broken["services"]["whylight"]["networks"].append("nowhere")
    with pytest.raises(ValueError, match="nowhere"):
        PyCompose.from_json(json.dumps(broken)).validate()


@ALL
def test_a_service_is_confined(service: dict[str, Any]) -> None:
    """No writable root, no root user, no capabilities, no new ones, and limits of everything."""
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(service["user"].partition(":")[0]) > 0
    assert not {"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode"} & service.keys()
    assert service["pids_limit"] > 0
    assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"


@ALL
def test_images_are_pinned(service: dict[str, Any]) -> None:
    """To a version, of a registry that the engine chooses."""
    assert re.fullmatch(r"([a-z]+/)?[a-z-]+:v?\d+\.\d+\.\d+(-cpu|-cuda)?", service["image"])


@ALL
def test_host_folders_are_read_only(service: dict[str, Any]) -> None:
    """What is written goes into volumes."""
    mounts = [volume.split(":") for volume in service.get("volumes", [])]
    assert all(mount[-1] == "ro" for mount in mounts if mount[0].startswith((".", "/")))
    assert not any("docker.sock" in mount[0] for mount in mounts)


def test_nobody_but_clients_and_operators_gets_in() -> None:
    """Two ports are published, both on loopback unless told otherwise; the workers have no network at all."""
    published = {name: each["ports"] for name, each in services().items() if "ports" in each}
    assert published == {"whylight": ["127.0.0.1:50051:50051"], "grafana": ["127.0.0.1:3000:3000"]}
    assert all(each["network_mode"] == "none" for each in services(*WORKERS).values())
    assert not any("networks" in each or "ports" in each for each in services(*WORKERS).values())
    assert compose()["networks"]["inner"] == {"internal": True}
    assert services("prometheus")["prometheus"]["networks"] == ["inner"]
    shared = set(services("whylight")["whylight"]["networks"]) & set(services("grafana")["grafana"]["networks"])
    assert shared == {"inner"}


def test_settings_exist() -> None:
    """A name that nothing reads would be a setting that does nothing."""
    for each in services("whylight", *WORKERS).values():
        named = {name for name in each["environment"] if name.startswith("WHYLIGHT_")}
        assert named
        assert named <= SETTINGS


def test_secrets_are_files() -> None:
    """No value of the environment is a secret, and nothing of the secrets lies in the repository."""
    for each in services().values():
        for name, value in each["environment"].items() if "environment" in each else ():
            assert not re.search("PASSWORD|TOKEN|SECRET|KEY", name) or str(value).startswith("/run/")
    assert all(each.keys() == {"file"} for each in compose()["secrets"].values())
    assert "secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    environment = services("whylight")["whylight"]["environment"]
    for name in ("TLS_CERTIFICATE", "TLS_KEY", "CLIENTS_FILE"):
        assert environment[f"WHYLIGHT_{name}"].removeprefix("/run/secrets/") in compose()["secrets"]


def test_service_and_workers_meet_in_one_folder() -> None:
    """The same path and the same user on both sides: progress and cancel go by a socket there too."""
    service, workers = services("whylight")["whylight"], services(*WORKERS).values()
    for each in (service, *workers):
        assert f"run:{SHARED}" in each["volumes"]
        assert each["user"] == OWN_USER
    environment = service["environment"]
    assert environment["WHYLIGHT_WORKER_INFERENCE_ADDRESS"] == f"unix:{SHARED}/{INFERENCE}"
    assert environment["WHYLIGHT_WORKER_MANAGEMENT_ADDRESS"] == f"unix:{SHARED}/{MANAGEMENT}"
    assert environment["WHYLIGHT_WORKER_KEY_FILE"] == f"{SHARED}/{KEYS}"
    assert environment["TMPDIR"] == SHARED
    options = compose()["volumes"]["run"]["driver_opts"]["o"].split(",")
    assert {"uid=10001", "gid=10001", "mode=0700"} <= set(options)
    assert "noexec" not in options  # Java unpacks a library into it


def test_both_sides_agree() -> None:
    """What the service and the workers both read has one value."""
    service = services("whylight")["whylight"]["environment"]
    for each in services(*WORKERS).values():
        assert each["environment"].keys() - service.keys() == {"WHYLIGHT_THREADS"}
        assert all(service[name] == each["environment"][name] for name in each["environment"].keys() & service.keys())


def test_one_profile_for_each_kind_of_worker() -> None:
    """The service waits for the one that is on, and stops before it."""
    found = services(*WORKERS)
    assert [each["profiles"] for each in found.values()] == [["cpu"], ["cuda"]]
    assert all("profiles" not in each for name, each in services().items() if name not in WORKERS)
    waits = services("whylight")["whylight"]["depends_on"]
    assert waits == {key: {"condition": "service_healthy", "required": False} for key in WORKERS}
    devices = found["torchserve-cuda"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]
    assert "reservations" not in found["torchserve-cpu"]["deploy"]["resources"]


def test_files_that_are_mounted_or_built_exist() -> None:
    """The dashboards, the provisioning, the rules, the Dockerfiles; and the names that they use are set."""
    grafana, prometheus = services("grafana")["grafana"], services("prometheus")["prometheus"]
    mounted = dict(volume.split(":")[:2] for volume in (*grafana["volumes"], *prometheus["volumes"]))
    assert all((ROOT / source).is_dir() for source in mounted if source.startswith("./"))
    folder = {(ROOT / source).resolve(): target for source, target in mounted.items() if source.startswith("./")}
    assert folder[DASHBOARDS[0].parent] == grafana["environment"]["WHYLIGHT_DASHBOARDS"]
    assert grafana["environment"]["WHYLIGHT_PROMETHEUS_URL"] == "http://prometheus:9090"
    assert f"--config.file={folder[ROOT / 'deploy' / 'prometheus']}/compose.yml" in prometheus["command"]
    builds = [each["build"]["dockerfile"] for each in services().values() if "build" in each]
    assert builds
    assert all((ROOT / file).is_file() for file in builds)


def test_prometheus_takes_its_configuration(tools: PrometheusTools) -> None:
    """The twin of prometheus.yml, which asks the service by its name."""
    done = tools.check("check", "config", ROOT / "deploy" / "prometheus" / "compose.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "whylight:9464" in (ROOT / "deploy" / "prometheus" / "compose.yml").read_text()


def test_the_health_check_is_the_probe() -> None:
    """Its options exist; the certificate that it trusts is the service's own."""
    service = services("whylight")["whylight"]
    command = service["healthcheck"]["test"]
    assert command[1:4] == ["python", "-m", probe.__name__]
    assert command[4:] == ["--tls-ca", service["environment"]["WHYLIGHT_TLS_CERTIFICATE"]]
    assert service["ports"][0].endswith(":" + probe.ADDRESS.rpartition(":")[2])


def test_what_is_drained_is_waited_for() -> None:
    """Compose kills after the grace period, so that must be longer than what accepted requests get."""
    assert int(services("whylight")["whylight"]["stop_grace_period"].rstrip("s")) > 30 + 8
    assert COMPOSE.read_text().count("stop_grace_period") == 2
