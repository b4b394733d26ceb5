"""``--depth``: pruned, averaged and adaptive runs, and that tiles cannot be seen in them (P3)."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cohorts import write_tiny

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings, WindowSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.networks.bundle import PACKAGED
from unet_pipeline.networks.bundle_tools import prune_bundle
from unet_pipeline.networks.depth import AdaptiveRule
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.storage.store import Store

SERIAL = ClusterSettings(kind="serial", threads=1)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("depth")
    write_tiny(Store(), str(folder), 1)
    shutil.copytree(PACKAGED / "phantom", folder / "model")
    rule = AdaptiveRule(limit=0.25, promised_loss=0.01)
    (folder / "model/configs/adaptive.json").write_bytes(rule.as_bytes())
    return folder


def label_map(place: Path, name: str, **changes) -> bytes:
    changes.setdefault("model", str(place / "model"))
    settings = SegmentSettings(
        images=str(place / "images"), output=str(place / name), cluster=SERIAL, resume=False,
        **changes,
    )  # fmt: skip
    (record,) = run_segment(open_segment(settings), SerialExecutor())
    assert record.status == "done", record.message
    return Path(record.output).read_bytes()


def test_each_depth_gives_the_label_map_of_its_pruned_bundle(place):
    store, maps = Store(), {}
    for depth in (1, 2, 3, 4):
        pruned = place / f"pruned-{depth}"
        prune_bundle(load_bundle(str(place / "model"), store), store, str(pruned), depth, "fast")
        maps[depth] = label_map(place, f"depth-{depth}", depth=str(depth))
        assert maps[depth] == label_map(place, f"alone-{depth}", model=str(pruned))
    assert maps[4] == label_map(place, "as-it-is")
    assert maps[1] != maps[4]
    assert label_map(place, "mean", depth="mean") not in (maps[1], maps[4])


def test_tiles_cannot_be_seen_in_adaptive_depth(place):
    whole = label_map(place, "whole", depth="adaptive", windows=WindowSettings(batch=2))
    for tile in ((24, 20, 16), (40, 16, 30), (9, 50, 50)):
        windows = WindowSettings(batch=2, tile=tile)
        assert label_map(place, "tiles", depth="adaptive", windows=windows) == whole


def test_mirroring_is_the_mean_over_flips_and_tiles_cannot_be_seen(place):
    plain = label_map(place, "plain")
    mirrored = label_map(place, "mirrored", windows=WindowSettings(mirror="x,z"))
    assert mirrored != plain
    tiled = WindowSettings(mirror="z,x", tile=(24, 20, 16))
    assert label_map(place, "mirrored-tiles", windows=tiled) == mirrored


def test_windows_end_at_more_than_one_depth_here(place):
    """So that the test above says something."""
    from unet_pipeline.inference import loaded

    loaded._predictors.clear()
    label_map(place, "counted", depth="adaptive")
    (made,) = loaded._predictors.values()
    assert np.count_nonzero(made.network.windows_at_depth) >= 2


def test_the_depth_is_in_the_sidecar_and_part_of_what_is_done(place):
    label_map(place, "twice", depth="2")
    (sidecar,) = (place / "twice").glob("*_dseg.json")
    assert json.loads(sidecar.read_text())["settings"]["depth"] == 2
    again = SegmentSettings(
        images=str(place / "images"), output=str(place / "twice"), cluster=SERIAL,
        model=str(place / "model"), depth="1",
    )  # fmt: skip
    (record,) = run_segment(open_segment(again), SerialExecutor())
    assert record.status == "done"  # not skipped


@pytest.mark.parametrize(
    ("depth", "code"), [("9", "depth_invalid"), ("adaptive", "depth_uncalibrated")]
)
def test_a_depth_that_cannot_be_stops_before_any_work(place, depth, code):
    settings = SegmentSettings(
        images=str(place / "images"), model="phantom", output=str(place / "no"), depth=depth
    )
    with pytest.raises(RequestError) as caught:
        open_segment(settings)
    assert caught.value.code == code


@pytest.mark.parametrize("depth", ["0", "deep", "-1"])
def test_a_depth_is_a_number_or_a_word(depth):
    with pytest.raises(ValueError, match="depth"):
        SegmentSettings(images="a", model="b", output="c", depth=depth)
