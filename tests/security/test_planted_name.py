"""P10, and no secret either: what goes in and must not come out, through the real command line.

A patient's name stands wherever a file has room for free text, in sound files and in broken ones;
the keys of the store are known. Then everything that the commands write or say is searched.
"""

import base64
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from command_line import cli_in_turn
from planted_names import (
    FAULTS,
    NAME,
    NEEDLES,
    SOUND,
    Outcome,
    packed,
    planted,
    spellings,
    write_planted,
)

from unet_pipeline.storage.store import Store, join

TOKEN = "canary-session-token-0123456789"


def commands(root: str, out: str) -> dict[str, list[str]]:
    images, masks = join(root, "images"), ["--masks", join(root, "masks")]
    sound = [join(images, "sound-*.nii.gz"), *masks]
    serial = ["--cluster", "serial", "--threads", "1"]
    strict = [*masks, "--require-masks"]
    return {
        "segment": ["segment", images, *strict, "--model", "phantom", "--output", f"{out}/serial",
                    *serial],
        "workers": ["segment", images, *strict, "--model", "phantom", "--output", f"{out}/dask",
                    "--json", "--cluster", "local", "--workers", "1", "--threads", "1",
                    "--content"],
        "check": ["check", images, *masks, "--content", "--output", f"{out}/check", "--fix",
                  f"{out}/fixed", "--remedies", "reorient,resample-mask"],
        "plan": ["plan", images, "--model", "phantom", "--no-measure", "--json"],
        "train": ["train", join(images, "[!l]*.nii.gz"), masks[1], "--output", f"{out}/model",
                  "--network", "unet", "--features", "4,8", "--roi-size", "16,16,16",
                  "--spacing", "3,3,3", "--classes", "3", "--steps", "2", "--checkpoint-every",
                  "1", "--threads", "1"],
        "compare": ["compare", *sound[:1], "phantom", f"{out}/model", *masks, "--output",
                    f"{out}/compare", "--resamples", "200", *serial],
        "layers": ["layers", *sound, "--model", "phantom", "--output", f"{out}/layers", "--layers",
                   "*_0_0", "--fit-cases", "1", "--score-cases", "1", "--groups", "0", "--windows",
                   "1", "--voxels", "200", "--threads", "1"],
    }  # fmt: skip


@pytest.fixture(scope="module")
def outcome(s3, tmp_path_factory) -> Iterator[Outcome]:
    """All commands, one after the other, on one planted cohort in a real bucket."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.server.environment().items():
            patch.setenv(name, value)
        patch.setenv("AWS_SESSION_TOKEN", TOKEN)
        patch.setenv("AWS_CONFIG_FILE", str(tmp_path_factory.mktemp("aws") / "none"))
        bucket, store, found = s3.bucket("planted"), Store(), Outcome()
        write_planted(store, join(bucket, "in"))
        words = commands(join(bucket, "in"), join(bucket, "out"))
        verbose = {name: ["-v", *rest] for name, rest in words.items()}
        found.said |= cli_in_turn(verbose, tmp_path_factory.mktemp("said"))
        found.files |= {url: store.read(url) for url in store.list_files(join(bucket, "out"))}
        yield found


pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_every_command_did_its_work(outcome):
    """Else nothing would be searched: the sound cases are done, the faults are faults."""
    codes = {name: done.returncode for name, done in outcome.said.items()}
    said = {name: done.stderr[-800:] for name, done in outcome.said.items()}
    assert codes == {**dict.fromkeys(outcome.said, 1), "compare": 0, "layers": 0}, said
    for part in ("serial", "dask"):
        maps = {url for url in outcome.files if f"/{part}/" in url and url.endswith(".nii.gz")}
        assert {url.rpartition("/")[2] for url in maps} == {f"{n}_dseg.nii.gz" for n in SOUND}
    for ending in ("check.html", "fixed/manifest.jsonl", "model/models/model.safetensors",
                   "report.html", "cases.csv", "run.json", "layers.html", ".png"):  # fmt: skip
        assert [url for url in outcome.files if url.endswith(ending)], ending
    assert [url for url in outcome.files if "tfevents" in url]
    assert "INFO unet_pipeline" in outcome.said["workers"].stderr


def test_every_fault_is_named_by_its_code(outcome):
    lines = [line for line in outcome.said["workers"].stdout.splitlines() if '"status"' in line]
    quarantined = {line.split('"case": "')[1].split('"')[0]: line for line in lines
                   if '"quarantined"' in line}  # fmt: skip
    assert set(quarantined) == FAULTS
    assert not [line for line in quarantined.values() if '"unexpected"' in line]


def test_the_name_is_found_where_it_is(s3):
    """The search itself: in a file as it went in, in a picture, in a page, in a checkpoint."""
    values = np.zeros((4, 4, 4), np.uint8)
    assert Outcome(files={"x": packed(planted(values, np.eye(4)))}).where(spellings(NAME))
    text = b"tEXtName\0" + NAME.encode()
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(text) - 4) + text + b"\0\0\0\0"
    page = b"<img src='data:image/png;base64," + base64.b64encode(png) + b"'>"
    assert Outcome(files={"x": page}).where(spellings(NAME))


def test_no_patient_text_leaves_the_input_by_any_command(outcome):
    assert outcome.where([form for text in NEEDLES for form in spellings(text)]) == []


def test_no_secret_of_the_store_comes_out(outcome, s3):
    assert outcome.where([s3.secret.encode(), TOKEN.encode()]) == []
