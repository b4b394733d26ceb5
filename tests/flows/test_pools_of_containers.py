"""The work pools of Docker and Kubernetes: what their own workers make of them and of a run."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from unet_pipeline import __version__
from unet_pipeline.errors import RequestError

pytestmark = pytest.mark.slow
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
POOLS = {"docker": DEPLOY / "docker-pool.json", "kubernetes": DEPLOY / "kubernetes/work-pool.json"}
EVIL = {"image": "evil:1", "privileged": True, "command": "evil"}
ENV = {"env": {"UNET_PIPELINE_ALLOW_TRUST": "x"}}  # workers would add it: the server refuses it
CONFIGURE = """
import asyncio, json, sys
from importlib import import_module
from pathlib import Path
for path, module, name in (("docker-pool.json", "prefect_docker", "Docker"),
                           ("kubernetes/work-pool.json", "prefect_kubernetes", "Kubernetes")):
    kind = getattr(import_module(f"{module}.worker"), f"{name}WorkerJobConfiguration")
    template = json.loads(Path(sys.argv[1], path).read_text())
    made = asyncio.run(kind.from_template_and_values(template, json.loads(sys.argv[2])))
    print(made.model_dump_json())
"""


def test_what_a_run_asks_for_changes_neither_container_nor_job(server):
    for name in ("prefect_docker", "prefect_kubernetes"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"no {name}")
    done = subprocess.run(
        [sys.executable, "-c", CONFIGURE, str(DEPLOY), json.dumps(EVIL)],
        env=server.env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    docker, kubernetes = (json.loads(line) for line in done.stdout.splitlines())
    assert docker["image"] == f"unet-pipeline:{__version__}-cpu"
    assert "evil" not in json.dumps(docker)
    assert docker["container_create_kwargs"]["read_only"]
    assert not docker["privileged"]
    (pod,) = kubernetes["job_manifest"]["spec"]["template"]["spec"]["containers"]
    assert pod["image"].endswith(f"/unet-pipeline:{__version__}-cpu")
    assert "evil" not in json.dumps(kubernetes)


@pytest.mark.parametrize("kind", POOLS)
def test_the_server_keeps_a_pool_and_lets_no_run_change_it(server, kind):
    template = json.loads(POOLS[kind].read_text())
    server.api("/work_pools/", {"name": kind, "type": kind, "base_job_template": template})
    flow = server.api("/flows/", {"name": "segment"})
    body = {"name": f"in-{kind}", "flow_id": flow["id"], "work_pool_name": kind}
    made = server.api("/deployments/", body)
    try:
        for more in (EVIL, ENV):
            asked = {"job_variables": more, "state": {"type": "SCHEDULED"}}
            with pytest.raises(RequestError, match="status 422"):
                server.api(f"/deployments/{made['id']}/create_flow_run", asked)
    finally:
        server.api(f"/deployments/{made['id']}", method="DELETE")
        server.api(f"/work_pools/{kind}", method="DELETE")
