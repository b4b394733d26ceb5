"""What lies in the wheel without being a package of pip stands in the bill of materials."""

import gzip
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

from unet_pipeline.viewing.assets import NIIVUE

ROOT = Path(__file__).resolve().parents[2]


def test_niivue_and_what_is_built_into_it_are_listed_once(tmp_path):
    bill = tmp_path / "bill.cdx.json"
    bill.write_text(json.dumps({
        "bomFormat": "CycloneDX", "metadata": {"component": {"bom-ref": "root-component"}},
        "components": [{"bom-ref": "torch==2", "name": "torch"}],
        "dependencies": [{"ref": "root-component", "dependsOn": ["torch==2"]}],
    }))  # fmt: skip
    for _ in range(2):
        subprocess.run([sys.executable, ROOT / "deploy/vendored", bill], check=True)
    said = json.loads(bill.read_text())
    _, niivue = said["components"]
    pinned = re.search(r'VERSION = "(.*)"', (ROOT / "deploy/niivue").read_text())[1]
    assert niivue["purl"] == f"pkg:npm/%40niivue/niivue@{pinned}"
    assert niivue["licenses"] == [{"license": {"id": "BSD-2-Clause"}}]
    assert len(niivue["hashes"][0]["content"]) == 128
    held, *inside = niivue["components"]
    data = (ROOT / held["name"]).read_bytes()
    assert held["hashes"][0]["content"] == hashlib.sha256(data).hexdigest()
    assert hashlib.sha256(gzip.decompress(data)).hexdigest() == NIIVUE
    licences = {one["name"]: one["licenses"][0]["license"]["id"] for one in inside}
    assert licences == {
        **dict.fromkeys(["array-equal", "fflate", "gl-matrix", "uuid", "nifti-reader-js",
                         "numcodecs", "zarrita", "storage"], "MIT"),
        "structured-clone": "ISC",
        "Roboto": "Apache-2.0",
    }  # fmt: skip
    assert said["dependencies"] == [
        {"ref": "root-component", "dependsOn": [niivue["bom-ref"], "torch==2"]},
        {"ref": niivue["bom-ref"]},
    ]
