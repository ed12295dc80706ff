"""`jobset.yaml`: the fields that make the processes find each other, and that exit code 75 alone starts them again."""

import pathlib
from typing import Any

import pytest
import yaml

PATH = pathlib.Path(__file__).resolve().parents[2] / "launch" / "jobset.yaml"


@pytest.fixture(scope="module")
def jobset() -> dict[str, Any]:
    return yaml.safe_load(PATH.read_text())


@pytest.fixture(scope="module")
def job(jobset: dict[str, Any]) -> dict[str, Any]:
    [replicated] = jobset["spec"]["replicatedJobs"]
    assert replicated["replicas"] == 1
    return replicated["template"]["spec"]


def test_kind(jobset: dict[str, Any]) -> None:
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")


def test_exit_75_and_evictions_start_all_again_and_other_codes_fail(jobset: dict[str, Any], job: dict[str, Any]) -> None:
    pods = job["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in pods] == ["FailJob", "FailJob"]
    assert pods[0]["onExitCodes"] == {"containerName": "main", "operator": "In", "values": [75]}
    assert pods[1]["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    # What these rules end has the reason PodFailurePolicy; what they do not name has BackoffLimitExceeded.
    assert job["backoffLimit"] == 0
    policy = jobset["spec"]["failurePolicy"]
    assert policy["rules"] == [
        {"name": "unfinished", "action": "RestartJobSetAndIgnoreMaxRestarts", "onJobFailureReasons": ["PodFailurePolicy"]},
        {"name": "failed", "action": "FailJobSet"},
    ]
    assert policy["restartStrategy"] == "BlockingRecreate"
    # Kubernetes takes a podFailurePolicy only with this.
    assert job["template"]["spec"]["restartPolicy"] == "Never"


def test_every_process_knows_the_coordinator_the_count_and_its_place(jobset: dict[str, Any], job: dict[str, Any]) -> None:
    [container] = job["template"]["spec"]["containers"]
    env = {entry["name"]: entry for entry in container["env"]}
    assert job["completionMode"] == "Indexed"
    assert int(env["POSTER_JAX_NUM_PROCESSES"]["value"]) == job["completions"] == job["parallelism"]
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert env["POSTER_JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"] == index
    # JobSet names pods SET-JOB-REPLICA-INDEX and makes the headless service SUBDOMAIN.
    [replicated] = jobset["spec"]["replicatedJobs"]
    network = jobset["spec"]["network"]
    assert network["enableDNSHostnames"] is True
    host = f"{jobset['metadata']['name']}-{replicated['name']}-0-0.{network['subdomain']}"
    port = container["ports"][0]["containerPort"]
    assert env["JAX_COORDINATOR_ADDRESS"]["value"] == f"{host}:{port}"


def test_a_pod_gets_its_sigterm_and_time_to_save(job: dict[str, Any]) -> None:
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    assert pod["terminationGracePeriodSeconds"] >= 120
    assert container["command"][:3] == ["python", "-m", "poster_jax.main"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 1}


def test_the_placeholders_are_explained(job: dict[str, Any]) -> None:
    text = PATH.read_text()
    manual = text[: text.index("apiVersion")]
    [container] = job["template"]["spec"]["containers"]
    assert container["image"] == "IMAGE"
    assert "#   IMAGE " in manual
    assert any("BUCKET" in word for word in container["command"])
    assert "#   BUCKET " in manual
