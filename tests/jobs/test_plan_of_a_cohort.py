"""Estimates before a run: sums by eye, real headers, and a bundle that no header can plan."""

import json

import pytest
from bundles import CT, random_bundle, transform

from unet_pipeline.config import ClusterSettings, CostSettings, SegmentSettings
from unet_pipeline.jobs.plan import (
    CasePlan,
    estimate,
    is_one_image,
    open_plan,
    plan_one,
    run_plan,
)
from unet_pipeline.phantoms import write_cohort
from unet_pipeline.records import CaseRecord, Rate
from unet_pipeline.speed import Speed, measure_speed
from unet_pipeline.storage.store import Store

SMALL = CasePlan("small", 10, 1, 500, bytes_read=2_000, voxel_bytes=4_000, label_bytes=1_000)
LARGE = CasePlan(
    "large", 30, 4, 900, bytes_read=6_000, voxel_bytes=8_000, label_bytes=2_000, handed_bytes=70
)
SPEED = Speed(0.5, decoded_per_second=4_000.0, encoded_per_second=1_000.0, device="cpu")


def settings_of(images, model, **changes):
    return SegmentSettings(images=str(images), model=str(model), output="memory://no", **changes)


def test_two_cases_on_four_workers():
    found = estimate([SMALL, LARGE], faults=1, workers=4, speed=SPEED, rate=Rate(3.6, "EUR"))
    assert (found.cases, found.faults, found.windows, found.most_windows) == (2, 1, 40, 30)
    assert (found.tiles, found.peak_bytes, found.handed_bytes) == (5, 900, 70)
    assert (found.bytes_read, found.voxel_bytes, found.label_bytes) == (8_000, 12_000, 3_000)
    assert found.device_seconds == 20.0  # 40 windows of half a second
    assert found.codec_seconds == 6.0  # 3 s to decode, 3 s to encode
    assert found.wall_seconds == 6.5
    assert found.price == pytest.approx(0.026)  # 26 s at 0.001 a second
    assert found.price_per_case == pytest.approx(0.013)


def test_without_a_measurement_there_are_no_seconds_and_no_price():
    found = estimate([SMALL], rate=Rate(3.6, "EUR"))
    assert (found.device_seconds, found.wall_seconds, found.price) == (None, None, None)
    assert estimate([], speed=SPEED, rate=Rate(1.0, "EUR")).price_per_case is None


def test_a_cohort_of_real_headers(shared_data):
    """The case plans add up, and each is that of the image planned alone."""
    images = shared_data / "hippocampus" / "images" / "hippocampus_00*.nii.gz"
    planning = open_plan(settings_of(images, "hippocampus"))
    plans = {plan.case: plan for plan in run_plan(planning)}
    assert len(plans) == len(list(images.parent.glob(images.name))) > 1
    found = estimate(list(plans.values()))
    assert found.windows == sum(plan.windows for plan in plans.values()) > 0
    assert found.bytes_read == sum(f.stat().st_size for f in images.parent.glob(images.name))
    name, plan = min(plans.items())
    _, alone, tiles = plan_one(settings_of(images.parent / f"{name}.nii.gz", "hippocampus"))
    assert (alone.windows, alone.label_bytes) == (plan.windows, plan.label_bytes)
    assert tiles.n_windows == plan.windows


def test_a_faulty_header_is_counted_and_named(tmp_path):
    (name,) = write_cohort(Store(), str(tmp_path), 1)
    (tmp_path / "images" / "broken.nii.gz").write_bytes(b"no volume")
    found = {
        one.case: one for one in run_plan(open_plan(settings_of(tmp_path / "images", "phantom")))
    }
    assert isinstance(found[name], CasePlan)
    assert isinstance(found["broken"], CaseRecord)
    assert found["broken"].code == "file_truncated"


def test_a_bundle_that_crops_is_planned_as_if_it_did_not(tmp_path):
    (name,) = write_cohort(Store(), str(tmp_path), 1)
    crop = transform("CropForegroundd", source_key="image")
    plain, cropping = (
        random_bundle(tmp_path / kind, preprocessing=steps)
        for kind, steps in (("plain", CT), ("cropping", (*CT[:4], crop, CT[4])))
    )
    image = tmp_path / "images" / f"{name}.nii.gz"
    _, whole, _ = plan_one(settings_of(image, plain))
    _, bound, _ = plan_one(settings_of(image, cropping))
    assert (whole.at_most, bound.at_most) == (False, True)
    assert bound.windows == whole.windows


@pytest.mark.parametrize(
    ("images", "one"),
    [("a.nii.gz", True), ("a.hdr", True), ("*.nii.gz", False), ("cases.csv", False), (".", False)],
)
def test_one_image_or_a_cohort(tmp_path, images, one):
    assert is_one_image(settings_of(tmp_path / images, "phantom")) is one


def test_this_machine_is_measured(tmp_path):
    settings = settings_of(
        tmp_path / "a.nii", "phantom", cluster=ClusterSettings(threads=1),
        cost=CostSettings(hourly_rate=1.0),
    )  # fmt: skip
    write_cohort(Store(), str(tmp_path), 1)
    planning = open_plan(settings.model_copy(update={"images": str(tmp_path / "images")}))
    speed = measure_speed(planning.model)
    assert speed.seconds_per_window > 0
    assert speed.decoded_per_second > 1e5
    assert speed.encoded_per_second > 1e5
    assert json.dumps(estimate([SMALL], speed=speed).as_dict())
    assert not Store().list_files("memory://unet-pipeline-speed")
