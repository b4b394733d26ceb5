"""Texts of a bundle and names of files reach Prefect's artifacts and logs as texts."""

import json
import re

from cohorts import write_tiny
from flow_runs import latest_run, of_run
from hostile_texts import HOSTILE, MARKUP, hostile_bundle, obeyed

from unet_pipeline.storage.store import Store


def test_artifacts_and_logs_of_a_run(server, copies, tmp_path):
    write_tiny(Store(), str(tmp_path / "in"), 1)
    for name in (HOSTILE, f"=1+1 {MARKUP}"):
        (tmp_path / "in/images" / f"{name}.nii.gz").write_bytes(b"no volume")
    settings = {
        "images": str(tmp_path / "in/images"), "output": str(tmp_path / "out"),
        "model": hostile_bundle(tmp_path / f"bundle {MARKUP}\x1b[2J"),
        "cluster": {"kind": "serial", "threads": 1},
    }  # fmt: skip
    flow = copies.start(settings, tmp_path)
    said, _ = flow.communicate(timeout=120)
    assert flow.returncode == 0, said
    artifacts = of_run(server, "artifacts", latest_run(server))
    assert {one["key"] for one in artifacts} >= {"cases", "summary", "report"}
    for one in artifacts:
        text = one["data"] if isinstance(one["data"], str) else json.dumps(one["data"])
        assert not obeyed(text)
        assert not obeyed(one["description"] or "")
        if one["key"] == "summary":
            assert not re.search(r"(?<!\\)<img|(?<!\\)\[a\]", text)
            rows = [line for line in text.splitlines() if line.startswith("|")]
            assert len(rows) == 2 + 3
    written = [line for line in said.splitlines() if "quarantined" in line or "case" in line]
    assert written
    assert not obeyed(re.sub(r"\x1b\[[0-9;]*m", "", said))  # Prefect's own colours
