"""The most doubtful label maps are pictures on the page of a run: a real server."""

import subprocess
import sys

import pytest
from bundles import random_bundle
from cohorts import with_one_odd, write_tiny
from flow_runs import latest_run, of_run

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings
from unet_pipeline.jobs.segment import close_segment, open_segment, run_segment
from unet_pipeline.records import json_text
from unet_pipeline.storage.store import Store

pytestmark = pytest.mark.slow
PUBLISH = """
import sys
from pathlib import Path
from prefect import flow
from pydantic import TypeAdapter
from unet_pipeline.records import RunSummary
from unet_pipeline.storage.store import Store
from unet_pipeline_flows.results import publish

@flow
def shown():
    summary = TypeAdapter(RunSummary).validate_json(Path(sys.argv[1]).read_text())
    publish(summary, [], Store())

shown()
"""


def test_a_label_map_unlike_the_others_is_shown_with_its_reason(server, tmp_path):
    write_tiny(Store(), str(tmp_path), 2)
    run = open_segment(
        SegmentSettings(
            images=f"{tmp_path}/images", output=f"{tmp_path}/out",
            model=random_bundle(tmp_path / "bundle", features=(4, 8)),
            cluster=ClusterSettings(kind="serial", threads=1),
        )
    )  # fmt: skip
    records = sorted(run_segment(run, SerialExecutor()), key=lambda one: one.case)
    summary = close_segment(run, with_one_odd(records), seconds=1.0, workers=1)
    file = tmp_path / "summary.json"
    file.write_text(json_text(summary.as_dict()))
    subprocess.run([sys.executable, "-c", PUBLISH, file], env=server.env, check=True, timeout=120)
    artifacts = {
        (a["key"] or a["type"]): a for a in of_run(server, "artifacts", latest_run(server))
    }
    picture = artifacts["look-at-1"]
    assert picture["type"] == "image"
    assert picture["data"].startswith("data:image/png;base64,iVBOR")
    assert picture["description"].startswith(f"`{records[1].case}`: label 1: share outside")
    assert "look-at-2" not in artifacts
    assert f"unet-pipeline view {tmp_path}/out/runs/" in artifacts["report"]["data"]
