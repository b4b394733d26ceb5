"""What runs no network starts without torch, MONAI and Dask, which take seconds to import."""

import subprocess
import sys

import pytest

FLOWS = [f"unet_pipeline_flows.{n}" for n in ("check", "compare", "depths", "layers", "segment",
                                              "train")]  # fmt: skip


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (["unet_pipeline.cli", "unet_pipeline.jobs.up"],
         {"torch", "monai", "distributed", "prefect", "numpy", "s3fs"}),
        (["unet_pipeline.jobs.view"], {"torch", "monai", "distributed", "prefect"}),
        (FLOWS, {"torch", "monai"}),  # as `prefect deploy` imports them
    ],
    ids=["the command line", "the viewer", "the flows"],
)  # fmt: skip
def test_what_runs_no_network_starts_without_one(modules, absent):
    code = f"import sys, {', '.join(modules)}\nprint(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = set(ran.stdout.split())
    assert set(modules) <= found
    assert found & absent == set()
