"""compose.yaml: locked services, no default password, names that exist."""

import re
import shutil
import subprocess

import pytest
from deploy_files import DEPLOY, compose, dotenv, interpolated

from unet_pipeline.config.allowed import Allowed

SECRETS = {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "PREFECT_PASSWORD", "S3_ACCESS_KEY",
           "S3_SECRET_KEY"}  # fmt: skip
SERVICES = compose()["services"]
OURS = {name for name, service in SERVICES.items() if "build" in service}
DOCKER = shutil.which("docker")


def has_compose() -> bool:
    if DOCKER is None:
        return False
    return not subprocess.run([DOCKER, "compose", "version"], capture_output=True).returncode


@pytest.mark.skipif(not has_compose(), reason="no docker with its compose plugin")
def test_docker_compose_reads_it(tmp_path):
    values = tmp_path / "env"
    values.write_text("".join(f"{name}=x\n" for name in SECRETS))
    command = [DOCKER, "compose", "--file", DEPLOY / "compose.yaml", "--env-file", values]
    subprocess.run([*command, "--profile", "*", "config", "--quiet"], check=True)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_locked(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].split(":")[0] not in {"0", "root"}
    image = interpolated(service["image"], dotenv())
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+(\.\d+)?-\w+(@sha256:[0-9a-f]{64})?", image)
    assert any(str(place).startswith("/tmp") for place in service["tmpfs"])
    assert service["networks"]
    assert service["healthcheck"].get("test") or service["healthcheck"] == {"disable": True}
    for port in service.get("ports", ()):
        assert port.startswith("127.0.0.1:")
    assert not service.get("privileged")
    assert "/var/run/docker.sock" not in str(service.get("volumes"))


def test_one_image_serves_all_that_is_ours():
    assert set(SERVICES) - {"postgres", "redis"} == OURS
    for name in OURS:
        variant = "cuda" if name == "dask-worker-gpu" else "cpu"
        assert SERVICES[name]["image"] == f"unet-pipeline:0.1.0-{variant}"
        args = interpolated(SERVICES[name]["build"]["args"], dotenv())
        assert args == {"VARIANT": variant, "PYTHON_IMAGE": dotenv()["PYTHON_IMAGE"]}
        assert SERVICES[name]["entrypoint"] == ["tini", "--"]


def test_images_of_others_can_be_given_a_digest():
    digest = "sha256:" + "0" * 64
    given = {name: f"{tag}@{digest}" for name, tag in dotenv().items() if name.endswith("_IMAGE")}
    assert given.keys() == {"PYTHON_IMAGE", "POSTGRES_IMAGE", "REDIS_IMAGE"}
    found = interpolated(SERVICES, dotenv() | dict.fromkeys(SECRETS, "x") | given)
    for name, service in found.items():
        theirs = service["build"]["args"]["PYTHON_IMAGE"] if name in OURS else service["image"]
        assert theirs.endswith(digest), name


def test_only_prefects_server_and_services_reach_the_database():
    assert compose()["networks"]["state"] == {"internal": True}
    inside = {name for name, service in SERVICES.items() if "state" in service["networks"]}
    assert inside == {"postgres", "redis", "prefect-server", "prefect-services"}


def test_gpus_are_for_gpu_workers_only():
    (name,) = [name for name, service in SERVICES.items() if "deploy" in service]
    assert name == "dask-worker-gpu"
    (device,) = SERVICES[name]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "device_ids": ["${GPU_ID:-0}"], "capabilities": ["gpu"]}
    assert "GPU=1" in SERVICES[name]["command"]
    added = set(SERVICES[name]["command"]) - set(SERVICES["dask-worker-cpu"]["command"])
    assert added == {"--resources", "GPU=1"}


def test_no_password_has_a_default():
    values = dotenv()
    assert {name for name, value in values.items() if not value} == SECRETS
    full = values | dict.fromkeys(SECRETS, "x")
    interpolated(SERVICES, full)
    for name in SECRETS:
        with pytest.raises(KeyError, match=name):
            interpolated(SERVICES, full | {name: ""})
    text = (DEPLOY / "compose.yaml").read_text()
    used = set(re.findall(r"\$\{(\w+)", text))
    assert used == set(values)


def test_the_command_that_makes_env(tmp_path):
    (command,) = re.findall(
        r"^cd deploy && (\(umask.*\))$", (DEPLOY / "README.md").read_text(), re.M
    )
    assert command in (DEPLOY / ".env.example").read_text()
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    shutil.copy(DEPLOY / ".env.example", tmp_path)
    subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, check=True)
    made = tmp_path / ".env"
    assert made.stat().st_mode & 0o777 == 0o600
    lines = [line for line in made.read_text().splitlines() if line and line[0] != "#"]
    values = dict(line.split("=", 1) for line in lines)
    random = [values[name] for name in SECRETS]
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in random)
    assert len(set(random)) == len(SECRETS)
    assert {n: v for n, v in values.items() if n not in SECRETS} == {
        n: v for n, v in dotenv().items() if v
    }


def test_what_services_depend_on_can_become_healthy():
    for name, service in SERVICES.items():
        for other, wanted in service.get("depends_on", {}).items():
            assert wanted == {"condition": "service_healthy"}
            assert "test" in SERVICES[other]["healthcheck"], (name, other)
            assert "profiles" not in SERVICES[other]


def test_scratch_is_one_volume_for_all_that_work():
    place = SERVICES["register"]["environment"]["UNET_PIPELINE_SCRATCH"]
    working = {"prefect-worker", "dask-worker-cpu", "dask-worker-gpu"}
    mounting = {n for n, s in SERVICES.items() if f"scratch:{place}" in s.get("volumes", ())}
    assert mounting == working


def test_prefects_server_answers_under_its_own_names_only():
    """By our own guard, which asks for a password always."""
    values = dotenv() | dict.fromkeys(SECRETS, "x")
    server = interpolated(SERVICES["prefect-server"], values)
    assert server["command"][:3] == ["python", "-m", "unet_pipeline_flows.server"]
    urls = server["environment"]["UNET_PIPELINE_PREFECT_URLS"].split(",")
    clients = interpolated(SERVICES["prefect-worker"], values)["environment"]["PREFECT_API_URL"]
    assert urls == [values["PREFECT_URL"], clients.removesuffix("/api")]
    assert server["environment"]["PREFECT_SERVER_API_AUTH_STRING"] == "admin:x"
    for name, service in SERVICES.items():
        assert service.get("command", [])[:3] != ["prefect", "server", "start"], name


def test_what_runs_may_name_is_said():
    values = dotenv() | dict.fromkeys(SECRETS, "x")
    worker = interpolated(SERVICES["prefect-worker"], values)["environment"]
    allowed = Allowed.from_environment(worker)
    assert allowed == Allowed(
        endpoints=frozenset({"http://s3:9000"}),
        prefixes=("s3://scans", "s3://results", "s3://scans/incoming",
                  "s3://results/segmentations", "/scratch"),
        clusters=frozenset({"tcp://dask-scheduler:8786"}),
    )  # fmt: skip
