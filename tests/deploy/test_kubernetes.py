"""The Kubernetes manifests fit the schemas, fit each other, and give nobody more than they need."""

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service import probe
from service.settings import Settings
from service.worker_command import INFERENCE, KEYS, MANAGEMENT
from tests.deploy.containers import KUBERNETES, SETTINGS, compose, containers, manifests, pod, rendered, resource
from tests.deploy.exposition import everything, sample_names

# The oldest in which a sidecar is on unless switched off, and the newest that the validator knows.
VERSIONS = ("1.29", "1.37")
SHARED = "/run/whylight"
BOTH = pytest.mark.parametrize("container", containers().values(), ids=containers().keys())


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("each", manifests(), ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_a_manifest_fits_its_schema(each: dict[str, Any], version: str) -> None:
    """Strictly: a field that is misspelt is an error."""
    assert kubernetes_validate.validate(each, version, strict=True) == version


def test_a_misspelt_field_does_not_fit() -> None:
    """So that the test above can fail."""
    broken = resource("Deployment")
    broken["spec"]["template"]["spec"]["terminationGracePeriodSecond"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_kustomize_makes_the_same_of_the_base() -> None:
    """Every file is in the list, and the namespace comes with it."""
    kinds = sorted(each["kind"] for each in rendered("base"))
    assert kinds == sorted(each["kind"] for each in manifests())
    assert {each["metadata"].get("namespace") for each in rendered("base")} == {"whylight", None}


def test_the_cuda_variant_gives_the_worker_a_gpu() -> None:
    """The worker alone, with the image of that build; it stays a sidecar with all that the base says."""
    deployment = next(each for each in rendered("cuda") if each["kind"] == "Deployment")
    assert kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True) == VERSIONS[-1]
    (worker,) = deployment["spec"]["template"]["spec"]["initContainers"]
    assert worker["image"].endswith("-cuda")
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    changed = {"image": None, "resources": None}
    assert {**worker, **changed} == {**containers()["worker"], **changed}


@BOTH
def test_a_container_is_confined(container: dict[str, Any]) -> None:
    """No writable root, no capabilities, no new ones, limits of everything, a pinned image."""
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"]["limits"].keys()
    assert re.fullmatch(r"whylight(-worker)?:\d+\.\d+\.\d+(-cpu)?", container["image"])


def test_a_pod_is_nobody() -> None:
    """The user of the images, without a token of the cluster."""
    context = pod()["securityContext"]
    assert context["runAsNonRoot"] is True
    assert {context["runAsUser"], context["runAsGroup"], context["fsGroup"]} == {10001}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod()["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod().keys()
    assert resource("Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_settings_exist() -> None:
    """Secrets come as files, and TMPDIR is of the image."""
    named = {each["name"] for container in containers().values() for each in container["env"]}
    assert named <= SETTINGS
    assert not any("secretKeyRef" in str(container["env"]) for container in containers().values())


def test_service_and_worker_meet_in_one_folder() -> None:
    """As in docker-compose.yml; the worker listens on no port."""
    service, worker = containers()["service"], containers()["worker"]
    for each in (service, worker):
        assert {"name": "run", "mountPath": SHARED} in each["volumeMounts"]
    environment = {each["name"]: each.get("value") for each in service["env"]}
    assert environment["WHYLIGHT_WORKER_INFERENCE_ADDRESS"] == f"unix:{SHARED}/{INFERENCE}"
    assert environment["WHYLIGHT_WORKER_MANAGEMENT_ADDRESS"] == f"unix:{SHARED}/{MANAGEMENT}"
    assert environment["WHYLIGHT_WORKER_KEY_FILE"] == f"{SHARED}/{KEYS}"
    assert "ports" not in worker
    assert worker["image"] == compose()["services"]["torchserve-cpu"]["image"]
    assert service["image"] == compose()["services"]["whylight"]["image"]


def test_the_worker_starts_first_and_ends_last() -> None:
    """Else requests that were accepted would lose their workers at the end of a pod."""
    assert [each["name"] for each in pod()["initContainers"]] == ["worker"]
    assert containers()["worker"]["restartPolicy"] == "Always"
    pause = int(containers()["service"]["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = Settings.model_fields["drain_timeout"].default
    assert pod()["terminationGracePeriodSeconds"] >= pause + drain + 8 + 20


def test_probes_ask_the_health_service() -> None:
    """Ready: its models answer. Alive: it answers at all."""
    service = containers()["service"]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        command = service[name]["exec"]["command"]
        assert command[:3] == ["python", "-m", probe.__name__]
        assert ("--alive" in command) == (name == "livenessProbe")
        assert command[-2:] == ["--tls-ca", "/etc/whylight/tls/tls.crt"]
    start = service["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] >= Settings.model_fields["start_timeout"].default


def test_selectors_and_ports_fit() -> None:
    """Everything means the pods of the deployment, and ports by the names that they have."""
    labels = resource("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert resource("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert resource("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert resource("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    ports = {each["name"]: each["containerPort"] for each in containers()["service"]["ports"]}
    assert ports == {
        "grpc": Settings.model_fields["port"].default,
        "metrics": Settings.model_fields["metrics_port"].default,
    }
    for each in manifests():
        if each["kind"] == "Service":
            assert each["spec"]["selector"] == labels
            assert all(port["port"] == ports[port["targetPort"]] for port in each["spec"]["ports"])


def test_nothing_goes_out_and_only_clients_and_prometheus_come_in() -> None:
    """Clients by a label, Prometheus by its namespace."""
    policy = resource("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    opened = {rule["ports"][0]["port"]: rule["from"] for rule in policy["ingress"]}
    assert opened["grpc"][0]["podSelector"]["matchLabels"] == {"whylight-client": "true"}
    assert opened["metrics"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "monitoring"}
    assert len(policy["ingress"]) == 2


def test_the_autoscaler_goes_by_a_figure_that_exists() -> None:
    """The service shows it, and the adapter's rule makes one number of it for each pod."""
    spec = resource("HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"]["name"] == resource("Deployment")["metadata"]["name"]
    assert "replicas" not in resource("Deployment")["spec"]
    (metric,) = spec["metrics"]
    name = metric["pods"]["metric"]["name"]
    (rule,) = yaml.safe_load((KUBERNETES / "monitoring" / "adapter.yaml").read_text())["rules"]["custom"]
    assert name in sample_names(everything())
    assert rule["name"]["as"] == name
    assert rule["seriesQuery"].startswith(name + "{")


def test_the_service_monitor_finds_the_metrics() -> None:
    """By the labels of one service and the name of its port, under the job's name that the alerts know."""
    (monitor,) = rendered("monitoring")
    wanted = monitor["spec"]["selector"]["matchLabels"]
    found = [
        each
        for each in manifests()
        if each["kind"] == "Service" and wanted.items() <= each["metadata"]["labels"].items()
    ]
    assert [each["metadata"]["name"] for each in found] == ["whylight-metrics"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in [port["name"] for port in found[0]["spec"]["ports"]]
    assert {"targetLabel": "job", "replacement": "whylight"} in endpoint["relabelings"]
