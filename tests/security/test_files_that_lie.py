"""Files that claim or unfold to more than they hold are refused by a budget, and soon.

Headers whose claims the file does not bear out, and streams without end, stand in
``test_hostile_files.py`` and ``test_probe.py``.
"""

import gzip
import json
import resource
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import nibabel as nib
import numpy as np
import pytest
import torch
from bundles import random_bundle
from sidecars import SOUND

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import Budget, ClusterSettings, SegmentSettings
from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.networks.nnunet.checkpoint import CHECKPOINT
from unet_pipeline.networks.weights import MOST_BYTES as MOST_WEIGHTS
from unet_pipeline.networks.weights import read_weights
from unet_pipeline.storage.ledger import read_record
from unet_pipeline.storage.manifest import MOST_BYTES, read_manifest
from unet_pipeline.storage.sidecar import read_sidecar, write_sidecar
from unet_pipeline.storage.store import Store
from unet_pipeline.volume.decoding import read_volume
from unet_pipeline.volume.formats.protocol import check_size
from unet_pipeline.volume.probe import probe_header

STORE = Store()
SECONDS = 20.0  # far more than a refusal takes, far less than what would be unpacked


def header_of(*shape: int, dtype: str = "u1") -> bytes:
    """Return a NIfTI-2 header (whose axes may be longer than 32,767) and the gap behind it."""
    header = nib.Nifti2Header()
    header.set_data_dtype(np.dtype(dtype))
    header.set_data_shape(shape)
    header.set_sform(np.eye(4), code=1)
    header["vox_offset"], header["magic"] = 544, b"n+2"
    return header.binaryblock + b"\0" * 4


def bomb(claimed: bytes, megabytes: int) -> bytes:
    """Return a gzip file of a header and zeros: about a thousandth of what it unpacks to."""
    member = gzip.compress(b"\0" * 10_000_000, 9)
    return gzip.compress(claimed) + member * (megabytes // 10)


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "an honest header of 2 GB": (lambda: bomb(header_of(1000, 1000, 2000), 2000),
                                 "volume_too_large"),
    "10 TB, packed": (lambda: bomb(header_of(20_000, 20_000, 25_000), 100), "file_truncated"),
    "10 TB, not packed": (lambda: header_of(20_000, 20_000, 25_000), "file_truncated"),
    "0.9 GB in a file of 0.5": (lambda: bomb(header_of(1000, 1000, 900), 500), "file_truncated"),
    "a few voxels in a file of 0.5": (lambda: bomb(header_of(4, 5, 6), 500), "file_trailing_data"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_in_bounded_time_and_memory(tmp_path, kind):
    make, code = BOMBS[kind]
    path = tmp_path / "x.nii.gz"
    path.write_bytes(make())
    assert path.stat().st_size < 2_100_000
    begin = perf_counter()
    tracemalloc.start()
    with pytest.raises(CaseError) as caught:
        probe_header(STORE, str(path), most_bytes=10**9)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.code == code
    assert peak < 40_000_000
    assert perf_counter() - begin < SECONDS


def test_the_size_is_held_against_the_budget_to_the_byte(tmp_path):
    path = tmp_path / "x.nii"
    path.write_bytes(header_of(10, 10, 10, dtype="i2") + bytes(2000))
    header = probe_header(STORE, str(path), most_bytes=2000).header
    check_size(header, 2000)
    for read in (
        lambda: probe_header(STORE, str(path), most_bytes=1999),
        lambda: read_volume(STORE, str(path), role="image0", budget_bytes=1, most_bytes=1999),
    ):
        with pytest.raises(CaseError) as caught:
            read()
        assert caught.value.code == "volume_too_large"
        assert "10 x 10 x 10 voxels" in caught.value.found


def test_a_case_over_the_budget_writes_nothing_and_the_next_is_done(tmp_path):
    """What is refused by its header never reaches the scratch folder."""
    images, scratch = tmp_path / "images", tmp_path / "scratch"
    images.mkdir()
    (images / "huge.nii.gz").write_bytes(bomb(header_of(200, 250, 200), 10))
    values = np.random.default_rng(0).integers(0, 300, (32, 32, 32)).astype(np.int16)
    nib.save(nib.Nifti1Image(values, np.eye(4)), images / "sound.nii.gz")
    settings = SegmentSettings(
        images=str(images), model="phantom", output=str(tmp_path / "out"),
        cluster=ClusterSettings(kind="serial", threads=1),
        budget=Budget(memory_gb=1e-5, scratch=str(scratch), max_volume_gb=1e-3),
    )  # fmt: skip
    records = {r.case: r for r in run_segment(open_segment(settings), SerialExecutor())}
    assert (records["huge"].status, records["huge"].code) == ("quarantined", "volume_too_large")
    assert "--max-volume-gb" in records["huge"].message
    assert records["sound"].status == "done", records["sound"].message
    assert scratch.exists()  # sound went there, huge did not
    assert sum(f.stat().st_size for f in scratch.rglob("*") if f.is_file()) < 10 * values.nbytes


# --- JSON


@pytest.fixture
def bundle(tmp_path) -> Path:
    return Path(random_bundle(tmp_path / "bundle", features=(4, 8)))


def refusal(bundle: Path) -> RequestError:
    begin = perf_counter()
    with pytest.raises(RequestError) as caught:
        load_network(load_bundle(str(bundle), STORE), STORE)
    assert perf_counter() - begin < SECONDS
    return caught.value


def entries(bundle: Path, **changes: object) -> None:
    path = bundle / "configs/inference.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_references_that_unfold_without_end(bundle):
    """Each entry names the next ten times: a hundred lines that would be 10^30 values."""
    folds = {f"fold{i}": [f"@fold{i + 1}"] * 10 for i in range(30)}
    entries(bundle, **folds, fold30=[1], preprocessing="@fold0")
    error = refusal(bundle)
    assert error.code == "bundle_invalid"
    assert "over 200,000 values" in error.found


def test_numbers_that_are_squared_without_end(bundle):
    squares = {f"n{i}": f"$@n{i + 1} * @n{i + 1}" for i in range(60)}
    entries(bundle, **squares, n60=99, inferer={"roi_size": "@n0"})
    assert refusal(bundle).code == "bundle_expression"


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("file", ["inference", "metadata"])
@pytest.mark.parametrize("depth", [100_000, 600])
def test_json_within_json(bundle, file, depth):
    path = bundle / f"configs/{file}.json"
    part = "preprocessing" if file == "inference" else "network_data_format"
    text = json.dumps({**json.loads(path.read_text()), part: "HERE"})
    path.write_text(text.replace('"HERE"', nested(depth)))
    if file == "metadata" and depth == 600:  # parsed, and then not needed
        load_bundle(str(bundle), STORE)
    else:
        assert refusal(bundle).code == "bundle_invalid"


def test_an_expression_within_an_expression(bundle):
    entries(bundle, inferer={"roi_size": "$" + "-" * 990 + "32"})
    assert refusal(bundle).code == "bundle_expression"


@pytest.mark.parametrize(
    "file", ["configs/inference.json", "configs/metadata.json", "configs/adaptive.json"]
)
def test_a_bundle_file_of_huge_size(bundle, file):
    path = bundle / file
    text = path.read_text() if path.exists() else "{}"
    path.write_text(text + " " * (17 * 2**20))
    assert refusal(bundle).code == "bundle_invalid"


def test_a_sidecar_of_huge_size_is_no_sidecar(tmp_path):
    (tmp_path / "x.json").write_bytes(write_sidecar(SOUND) + b" " * (17 * 2**20))
    assert read_sidecar(read_record(STORE, str(tmp_path / "x.json"))) is None


def test_a_manifest_of_huge_size_is_refused(tmp_path):
    path = tmp_path / "m.csv"
    path.write_bytes(b"case,image\n")
    with path.open("r+b") as file:
        file.truncate(MOST_BYTES + 1)  # a hole: it takes no room
    with pytest.raises(RequestError) as caught:
        read_manifest(STORE, str(path))
    assert caught.value.code == "manifest_too_large"


def test_a_manifest_of_json_within_json(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"case": ' + nested(100_000) + "}\n")
    with pytest.raises(RequestError) as caught:
        read_manifest(STORE, str(path))
    assert caught.value.code == "manifest_invalid"


# --- weights


def test_weights_that_unpack_to_more_than_they_hold(bundle):
    """PyTorch stores, it does not compress: a file that does is not of its making."""
    weights = load_network(load_bundle(str(bundle), STORE), STORE).state_dict()
    (bundle / "models/model.safetensors").unlink()
    path = bundle / "models/model.pt"
    torch.save({**weights, "more": torch.zeros(30_000_000)}, path)
    with zipfile.ZipFile(path) as stored:
        parts = {name: stored.read(name) for name in stored.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in parts.items():
            packed.writestr(name, data)
    assert path.stat().st_size < 1_000_000
    assert refusal(bundle).code == "bundle_invalid"


@pytest.mark.parametrize("file", ["model.safetensors", "model.pt", "model.ts", "model.pt2"])
def test_weights_of_huge_size_are_not_read(bundle, file):
    (bundle / "models/model.safetensors").unlink()
    hollow(bundle / "models" / file, MOST_WEIGHTS + 1)
    error = unread(lambda: load_bundle(str(bundle), STORE, trust=True))
    assert error.code == "weights_too_large"
    assert error.found == "8,589,934,593 bytes"


def test_checkpoints_of_huge_size_are_not_read(tmp_path):
    for name in ("plans.json", "dataset.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "fold_0").mkdir()
    hollow(tmp_path / "fold_0" / CHECKPOINT, MOST_WEIGHTS + 1)
    assert unread(lambda: load_bundle(str(tmp_path), STORE)).code == "weights_too_large"


def test_weights_that_grew_since_the_run_began_are_not_read(bundle):
    seen = load_bundle(str(bundle), STORE)
    hollow(bundle / "models/model.safetensors", MOST_WEIGHTS + 1)
    assert unread(lambda: load_network(seen, STORE)).code == "weights_too_large"


def hollow(path: Path, size: int) -> None:
    with path.open("ab") as file:
        file.truncate(size)  # a hole: it takes no room


def unread(load: Callable[[], object]) -> RequestError:
    tracemalloc.start()
    with pytest.raises(RequestError) as caught:
        load()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40_000_000
    return caught.value


def test_the_limit_is_held_to_the_byte(tmp_path, monkeypatch):
    (tmp_path / "w.pt").write_bytes(bytes(1000))
    monkeypatch.setattr("unet_pipeline.networks.weights.MOST_BYTES", 1000)
    assert len(read_weights(str(tmp_path / "w.pt"), STORE)) == 1000
    monkeypatch.setattr("unet_pipeline.networks.weights.MOST_BYTES", 999)
    with pytest.raises(RequestError):
        read_weights(str(tmp_path / "w.pt"), STORE)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        # 2.7 billion values for the first levels
        ({"channels": [4096] * 6, "strides": [2] * 5}, "more values than weights of"),
        ({"channels": [4, 4], "strides": [2], "num_res_units": 10**9}, "from 0 to 64"),
    ],
)
def test_a_network_larger_than_its_weights_is_not_built(bundle, sizes, message):
    seen = load_bundle(str(bundle), STORE)
    ends = {"in_channels": seen.in_channels, "out_channels": seen.out_channels}
    entries(bundle, network_def={"_target_": "UNet", "spatial_dims": 3, **ends, **sizes})
    before = peak_resident_bytes()
    error = refusal(bundle)
    assert error.code == "network_invalid"
    assert message in error.found
    assert peak_resident_bytes() - before < 500_000_000


def peak_resident_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_weights_that_claim_more_than_they_hold(bundle):
    """Once in the table of a safetensors file, once in the old format of torch.save."""
    path = bundle / "models/model.safetensors"
    table = json.dumps({"w": {"dtype": "F32", "shape": [2**31], "data_offsets": [0, 2**33]}})
    path.write_bytes(struct.pack("<Q", len(table)) + table.encode() + bytes(1000))
    assert refusal(bundle).code == "bundle_invalid"
    path.unlink()
    old = path.with_suffix(".pt")
    torch.save({"w": torch.zeros(1_234_567)}, old, _use_new_zipfile_serialization=False)
    data = old.read_bytes()
    assert struct.pack("<i", 1_234_567) in data
    old.write_bytes(data.replace(struct.pack("<i", 1_234_567), struct.pack("<i", 2**31 - 1)))
    before = peak_resident_bytes()
    assert refusal(bundle).code == "bundle_invalid"
    assert peak_resident_bytes() - before < 500_000_000
