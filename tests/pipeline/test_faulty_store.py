"""A store that misbehaves: no wrong label map, no traceback, and nothing computed for an upload."""

import json
import random
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from bundles import random_bundle
from cohorts import write_tiny
from faulty_s3 import CUT, EXPIRED, PASS, RESET, SLOW_DOWN, Answer

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import Budget, ClusterSettings, SegmentSettings
from unet_pipeline.errors import PipelineError, RunStopped
from unet_pipeline.jobs.segment import close_segment, faults_of, open_segment, run_segment
from unet_pipeline.storage import filesystems, outage
from unet_pipeline.storage.faults import of_system
from unet_pipeline.storage.ledger import digest_bytes
from unet_pipeline.storage.store import Store, join

SERIAL = ClusterSettings(kind="serial", threads=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return random_bundle(tmp_path_factory.mktemp("faulty") / "bundle", features=(4, 8))


@pytest.fixture
def cohort(s3_env, proxy):
    """A bucket with two images and masks, and the folder behind it."""
    bucket = s3_env.bucket("faulty")
    write_tiny(Store(), bucket, 2)
    return bucket, s3_env.server.folder / bucket.removeprefix("s3://")


def opened(bucket, bundle, output="out", **changes):
    settings = SegmentSettings(
        images=join(bucket, "images"), masks=join(bucket, "masks"), model=bundle,
        output=join(bucket, output), cluster=SERIAL, **changes,
    )  # fmt: skip
    return open_segment(settings)


def run_through(run):
    """Return records by case, the summary, and why the run was stopped, if it was."""
    records, stopped = faults_of(run), None
    try:
        records += run_segment(run, SerialExecutor())
    except RunStopped as error:
        stopped = error
    summary = close_segment(run, records, seconds=1.0, workers=1, stopped=stopped)
    return {record.case: record for record in records}, summary, stopped


def statuses(records):
    return {name: record.status for name, record in records.items()}


def label_maps(folder: Path):
    return {path.name: path.read_bytes() for path in folder.glob("*_dseg.nii.gz")}


def chunks(folder: Path):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for label_map in folder.glob("*_dseg.ome.zarr")
        for path in label_map.rglob("*")
        if path.is_file()
    }


ALL_DONE = {"phantom-01": "done", "phantom-02": "done"}


def one_in_three(fault, seed):
    choice, most = random.Random(seed), 6 if fault == 10.0 else 10**6
    left = iter(range(most))
    return lambda request: fault if choice.random() < 1 / 3 and next(left, most) < most else PASS


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(SLOW_DOWN, id="slow_down", marks=pytest.mark.soak),
        pytest.param(RESET, id="reset", marks=pytest.mark.soak),
        pytest.param(CUT, id="cut"),
        pytest.param(10.0, id="sleep", marks=pytest.mark.soak),
    ],
)
def test_faults_of_every_third_request_cost_time_only(cohort, bundle, proxy, inferences, fault):
    bucket, folder = cohort
    run_through(opened(bucket, bundle, "wanted"))
    computed = len(inferences)
    run = opened(bucket, bundle, budget=Budget(retries=8))
    proxy.restart(one_in_three(fault, 1))
    records, _, stopped = run_through(run)
    assert stopped is None
    assert statuses(records) == ALL_DONE
    assert label_maps(folder / "out") == label_maps(folder / "wanted")
    assert len(inferences) == 2 * computed


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(SLOW_DOWN, id="slow_down", marks=pytest.mark.soak),
        pytest.param(RESET, id="reset", marks=pytest.mark.soak),
        pytest.param(CUT, id="cut", marks=pytest.mark.soak),
    ],
)
def test_a_label_map_in_chunks_is_whole_after_faults_of_every_third_request(
    cohort, bundle, proxy, inferences, fault
):
    bucket, folder = cohort
    run_through(opened(bucket, bundle, "wanted", output_format="ome-zarr"))
    computed = len(inferences)
    run = opened(bucket, bundle, budget=Budget(retries=8), output_format="ome-zarr")
    proxy.restart(one_in_three(fault, 1))
    records, _, stopped = run_through(run)
    assert stopped is None
    assert statuses(records) == ALL_DONE
    assert chunks(folder / "out") == chunks(folder / "wanted") != {}
    assert len(inferences) == 2 * computed
    proxy.restart()
    records, _, _ = run_through(opened(bucket, bundle, output_format="ome-zarr"))
    assert set(statuses(records).values()) == {"skipped"}


def test_a_failed_upload_never_repeats_the_inference_and_stops_the_run(
    cohort, bundle, proxy, inferences, monkeypatch
):
    bucket, folder = cohort
    monkeypatch.setattr(outage, "WAITS_SECONDS", ())
    monkeypatch.setattr(outage, "UPLOAD_WAITS_SECONDS", (0.05,))
    run = opened(bucket, bundle)
    run = replace(run, cases=run.cases[:1])
    proxy.restart(
        lambda request: (
            SLOW_DOWN
            if request.method == "PUT" and "/.unet-pipeline/" not in request.path
            else PASS
        )
    )
    records, summary, stopped = run_through(run)
    assert stopped.code in {"storage_failed", "endpoint_unreachable"}
    assert (len(inferences), records) == (1, {})
    assert summary.stopped.startswith("0 of 1 done.")
    assert json.loads(Path(summary.report).with_name("run.json").read_text())["stopped"]
    shutil.rmtree(Path(summary.report).parent)
    assert not label_maps(folder / "out")
    proxy.restart()
    records, _, stopped = run_through(opened(bucket, bundle))
    assert (statuses(records), stopped) == (ALL_DONE, None)


def test_an_upload_that_fails_some_times_is_tried_again_by_itself(
    cohort, bundle, proxy, inferences
):
    bucket, _ = cohort
    run, failed = opened(bucket, bundle), []

    def rule(request):
        if request.method == "PUT" and "_dseg" in request.path and len(failed) < 8:
            failed.append(request.path)
            return SLOW_DOWN
        return PASS

    proxy.restart(rule)
    records, _, stopped = run_through(run)
    assert (statuses(records), stopped, len(failed)) == (ALL_DONE, None, 8)
    assert len(inferences) == 2


@pytest.fixture
def hasty(monkeypatch):
    """Ask a store once."""
    monkeypatch.setattr(filesystems, "_TRIES", 1)
    monkeypatch.setattr(filesystems, "_S3FS_TRIES", 1)


def test_a_case_whose_lease_finds_no_answer_is_tried_again(hasty, cohort, bundle, proxy):
    """A listing that fails is ``endpoint_unreachable`` and not ``storage_failed``."""
    bucket, _ = cohort
    run, failed = opened(bucket, bundle), []

    def rule(request):
        if "list-type" in request.path and "cases%2F" in request.path and len(failed) < 5:
            failed.append(request.path)
            return RESET
        return PASS

    proxy.restart(rule)
    records, _, stopped = run_through(run)
    assert (statuses(records), stopped, len(failed)) == (ALL_DONE, None, 5)


def test_a_token_that_expires_in_the_middle_stops_the_run_and_the_next_goes_on(
    cohort, bundle, proxy
):
    bucket, _ = cohort
    run, written = opened(bucket, bundle), []

    def rule(request):
        if len(written) == 2 and "phantom-01" not in request.path:
            return EXPIRED
        if request.method == "PUT" and "phantom-01_dseg.json" in request.path:
            written.append(request.path)
        return PASS

    proxy.restart(rule)
    records, summary, stopped = run_through(run)
    assert stopped.code == "access_denied"
    assert "ExpiredToken" in str(stopped)
    assert statuses(records) == {"phantom-01": "done"}
    assert summary.stopped.startswith("1 of 2 done.")
    assert Path(summary.report).is_file()
    shutil.rmtree(Path(summary.report).parent)
    proxy.restart()
    records, summary, stopped = run_through(opened(bucket, bundle))
    assert statuses(records) == {"phantom-01": "skipped", "phantom-02": "done"}
    assert (stopped, summary.stopped) == (None, "")


def test_new_keys_of_a_profile_are_asked_for_before_giving_up(
    cohort, bundle, proxy, s3_env, monkeypatch, tmp_path
):
    bucket, _ = cohort
    keys = tmp_path / "keys"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))

    def write_keys(token):
        keys.write_text(
            f"[night]\naws_access_key_id = {s3_env.key}\naws_secret_access_key = {s3_env.secret}\n"
            f"aws_session_token = {token}\n"
        )

    write_keys("first")
    run = opened(bucket, bundle, storage={"profile": "night"})
    refused = []

    def rule(request):
        if request.number > 12 and request.headers.get("X-Amz-Security-Token") == "first":
            write_keys("second")
            refused.append(request.path)
            return EXPIRED
        return PASS

    proxy.restart(rule)
    records, _, stopped = run_through(run)
    assert refused
    assert (statuses(records), stopped) == (ALL_DONE, None)


def versions_of(folder, tmp_path):
    """Two versions of phantom-01: its own, and that of phantom-02."""
    for name, case in (("first", "phantom-01"), ("second", "phantom-02")):
        for kind in ("images", "masks"):
            (tmp_path / name / kind).mkdir(parents=True)
            source = folder / kind / f"{case}.nii.gz"
            shutil.copy(source, tmp_path / name / kind / "phantom-01.nii.gz")
    return tmp_path / "first", tmp_path / "second"


def put(version: Path, folder: Path):
    for kind in ("images", "masks"):
        part = folder / kind / "part"
        shutil.copy(version / kind / "phantom-01.nii.gz", part)
        part.rename(folder / kind / "phantom-01.nii.gz")


def replaced_at(number, version, folder):
    def rule(request):
        if request.number == number:
            put(version, folder)
        return PASS

    return rule


@pytest.mark.parametrize("step", [23, pytest.param(1, marks=pytest.mark.soak)])
def test_an_object_replaced_at_any_request_gives_no_label_map_of_a_mixture(
    cohort, bundle, proxy, tmp_path, step
):
    bucket, folder = cohort
    versions = versions_of(folder, tmp_path)
    wanted = {}
    for version in versions:
        put(version, folder)
        run_through(opened(bucket, bundle, version.name))
        name = "phantom-01_dseg.nii.gz"
        image = (version / "images" / "phantom-01.nii.gz").read_bytes()
        wanted[digest_bytes(image)] = (folder / version.name / name).read_bytes()
    number, seen = 1, set()
    while True:
        put(versions[0], folder)
        run = opened(bucket, bundle, f"out-{number}")
        proxy.restart(replaced_at(number, versions[1], folder))
        records, _, stopped = run_through(replace(run, cases=run.cases[:1]))
        assert stopped is None
        record = records["phantom-01"]
        assert record.status == "done", (number, record.message)
        sidecar = json.loads((folder / f"out-{number}" / "phantom-01_dseg.json").read_text())
        (image,) = [one["sha256"] for one in sidecar["inputs"] if one["role"] == "image0"]
        found = (folder / f"out-{number}" / "phantom-01_dseg.nii.gz").read_bytes()
        assert found == wanted[image], number
        seen.add(image)
        if proxy.count < number:
            break
        number += step
    assert seen == set(wanted)


def test_a_full_disk_stops_the_run_and_the_report_goes_elsewhere(bundle, tmp_path, monkeypatch):
    """A limit on the size of files stands for the disk: EFBIG in the place of ENOSPC."""
    monkeypatch.setattr(outage, "WAITS_SECONDS", ())
    write_tiny(Store(), str(tmp_path), 2)
    run = opened(str(tmp_path), bundle)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        records, summary, stopped = run_through(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (stopped.code, records) == ("output_full", {})
    assert summary.stopped.startswith("0 of 2 done.")
    assert "Free space" in summary.stopped
    records, _, stopped = run_through(opened(str(tmp_path), bundle))
    assert (statuses(records), stopped) == (ALL_DONE, None)


@pytest.mark.parametrize(
    ("number", "code"),
    [(28, "scratch_full"), (36, "name_too_long"), (30, "read_only"), (24, "system_failed")],
)
def test_whatever_has_an_errno_has_a_name(number, code):
    assert of_system(OSError(number, "as told")).code == code
    wrapped = RuntimeError("of a library")
    wrapped.__cause__ = OSError(number, "as told")
    assert of_system(wrapped).code == code
    assert of_system(RuntimeError("of ours")) is None


def test_a_name_that_is_too_long_costs_its_case(bundle, tmp_path):
    write_tiny(Store(), str(tmp_path), 2)
    image = tmp_path / "images" / "phantom-01.nii.gz"
    image.rename(image.with_name(f"{'n' * 245}.nii.gz"))
    run = open_segment(SegmentSettings(
        images=str(tmp_path / "images"), model=bundle, output=str(tmp_path / "out"), cluster=SERIAL,
    ))  # fmt: skip
    records, _, stopped = run_through(run)
    assert stopped is None
    assert {record.code or record.status for record in records.values()} == {
        "name_too_long",
        "done",
    }


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(301, "PermanentRedirect"), "region_wrong"),
        (Answer(400, "AuthorizationHeaderMalformed"), "region_wrong"),
        (Answer(403, "InvalidObjectState"), "object_archived"),
    ],
)
def test_regions_and_archive_classes_are_named(cohort, proxy, answer, code):
    bucket, _ = cohort
    proxy.restart(lambda request: answer)
    with pytest.raises(PipelineError) as caught:
        Store().read(join(bucket, "images", "phantom-01.nii.gz"))
    assert caught.value.code == code
