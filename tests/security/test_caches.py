"""What compilers keep is loaded again as code: it lies where no other user could put it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOBODY = 65534
WHERE = (
    "from torch._inductor.codecache import FxGraphCache\n"
    "from torch._inductor.runtime.cache_dir_utils import cache_dir, triton_cache_dir\n"
    "print(FxGraphCache._get_tmp_dir(), cache_dir(), triton_cache_dir(0), sep='\\n')"
)
KEPT = "from unet_pipeline.caches import compilers_keep_to_it; compilers_keep_to_it()\n"


@pytest.fixture
def theirs(tmp_path):
    """The folder that PyTorch's compiler takes by default, made first by another user."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    folder = temporary / "torchinductor_me"
    folder.mkdir()
    folder.chmod(0o777)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    return folder


def places(code: str, theirs: Path, tmp_path: Path) -> list[Path]:
    environment = {
        **os.environ, "TMPDIR": str(theirs.parent), "LOGNAME": "me",
        "UNET_PIPELINE_CACHE": str(tmp_path / "cache"),
    }  # fmt: skip
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        environment.pop(name, None)
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return [Path(line) for line in said.stdout.split()]


def test_pytorch_by_itself_unpickles_from_a_folder_that_another_user_made_first(theirs, tmp_path):
    """The fault; where this fails one day, PyTorch has fixed it."""
    assert all(place.is_relative_to(theirs) for place in places(WHERE, theirs, tmp_path))


def test_graphs_and_kernels_lie_in_the_folder_of_this_user(theirs, tmp_path):
    for place in places(KEPT + WHERE, theirs, tmp_path):
        assert place.is_relative_to(tmp_path / "cache")
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_what_imports_the_compiler_beside_its_work_makes_no_such_folder(tmp_path):
    """PyTorch's optimisers import it, and its exporter; each use is a process of its own."""
    code = """
import os, torch
from unet_pipeline.inference.engines.protocol import Problem, exported
from unet_pipeline.layer_analysis.probe import fit_probe
from unet_pipeline.training.recipe import Recipe

network, seen = torch.nn.Conv3d(1, 2, 1), torch.arange(8.0)[:, None]
uses = (
    lambda: Recipe((8, 8, 8), steps=1).make_optimiser(network.parameters()),
    lambda: fit_probe(seen, (seen[:, 0] > 3).long(), torch.tensor([0.5, 0.5])),
    lambda: exported(Problem(network, (1, 1, 4, 4, 4), torch.device("cpu"), 1)),
)
for use in uses:
    if not os.fork():
        use()
        os._exit(0)
    print(*(["/failed"] if os.wait()[1] else []))
"""
    (tmp_path / "tmp").mkdir()
    assert places(code, tmp_path / "tmp" / "torchinductor_me", tmp_path) == []
    assert not [*(tmp_path / "tmp").iterdir()]


def test_machine_code_of_numba_lies_there_too(theirs, tmp_path):
    code = "import unet_pipeline.tiling.kernels, numba; print(numba.config.CACHE_DIR)"
    assert places(code, theirs, tmp_path) == [tmp_path / "cache" / "numba"]
