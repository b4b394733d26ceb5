"""What stands as hosts is what compose.yaml says: this needs no podman."""

from pathlib import Path

import yaml
from hosts import DEPLOY, HOSTS, on_hosts


def test_hosts_are_the_worker_of_compose_but_for_their_volumes():
    theirs = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    ours, worker = on_hosts()["services"], theirs["dask-worker-cpu"]
    for host in HOSTS:
        assert ours[host].keys() | {"profiles"} == worker.keys()
        for name in ours[host].keys() - {"volumes", "environment"}:
            assert ours[host][name] == worker[name], name
        assert worker["environment"].items() <= ours[host]["environment"].items()
        scratch = [place for place in ours[host]["volumes"] if place.endswith(":/scratch")]
        assert scratch == [f"{host}:/scratch"]
    for name in ("dask-scheduler", "s3", "prefect-server", "prefect-services", "postgres", "redis"):
        kept = theirs[name].keys() - {"ports", "profiles"}
        assert ours[name] == {key: theirs[name][key] for key in kept}


def test_with_certificates_no_service_of_dask_is_open():
    services = on_hosts(Path("/certificates"))["services"]
    for name in ("dask-scheduler", *HOSTS):
        words = services[name]["command"]
        assert "--tls-ca-file" in words
        assert not any(word.startswith("tcp://") for word in words)
        assert "/certificates:/tls:ro" in services[name]["volumes"]
    assert services["dask-scheduler"]["command"][-2:] == ["--protocol", "tls"]
