"""What a command says of its limits is what it does."""

import nibabel as nib
import numpy as np
import pytest
from command_line import cli

from unet_pipeline.phantoms import write_cohort
from unet_pipeline.storage.store import Store


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Two phantoms; the second's mask is stored in another order."""
    folder = tmp_path_factory.mktemp("limits") / "scans"
    _, reordered = write_cohort(Store(), str(folder), 2)
    path = folder / "masks" / f"{reordered}.nii.gz"
    nib.save(nib.load(path).as_reoriented(np.array([[1, 1], [0, -1], [2, 1]])), path)
    return folder


def help_of(command: str) -> str:
    """The help without the frame around it."""
    return " ".join(cli(command, "--help").stdout.replace("│", " ").split())


def test_a_manifest_of_fixed_files_needs_allow_as_the_help_says(scans, tmp_path):
    fixed = tmp_path / "fixed"
    assert "segment then needs --allow" in help_of("check")
    done = cli("check", scans / "images", "--masks", scans / "masks", "--fix", fixed)
    assert done.returncode == 0, done.stdout
    refused = cli("check", fixed / "manifest.jsonl")
    assert refused.returncode == 2
    assert "--allow" in refused.stderr
    assert cli("check", fixed / "manifest.jsonl", "--allow", scans).returncode == 0
