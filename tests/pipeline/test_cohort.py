"""P6-P8 and P10 on a real bucket: quarantine, resume, kill -9, no patient text."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
from cohorts import SmallCohort, small_cohort, tiny_cohort

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings, WindowSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.segment import close_segment, faults_of, open_segment, run_segment
from unet_pipeline.storage.store import Store, join

SERIAL = ClusterSettings(kind="serial", threads=1)


def run_all(settings: SegmentSettings):
    run = open_segment(settings)
    records = [*faults_of(run), *run_segment(run, SerialExecutor())]
    summary = close_segment(run, records, seconds=1.0, workers=1)
    return {record.case: record for record in records}, summary


@pytest.fixture
def cohort(s3_env) -> tuple[str, SmallCohort]:
    bucket = s3_env.bucket("cohort")
    return bucket, tiny_cohort(Store(), join(bucket, "scans"))


@pytest.fixture
def long_cohort(s3_env) -> tuple[str, SmallCohort]:
    """Cases that take long enough for something to happen meanwhile."""
    bucket = s3_env.bucket("cohort")
    return bucket, small_cohort(Store(), join(bucket, "scans"))


def settings_of(bucket: str, cohort: SmallCohort, **changes) -> SegmentSettings:
    values = {
        "images": cohort.images,
        "masks": cohort.masks,
        "model": "phantom",
        "output": join(bucket, "out"),
        "cluster": SERIAL,
        "require_masks": True,
        **changes,
    }
    return SegmentSettings(**values)


def test_bad_cases_are_quarantined_and_the_others_done(cohort):
    bucket, small = cohort
    records, summary = run_all(settings_of(bucket, small))
    assert {name: record.status for name, record in records.items()} == {
        **dict.fromkeys(small.sound, "done"),
        small.misaligned: "quarantined",
        small.cut_short: "quarantined",
    }
    assert records[small.misaligned].code == "origin_mismatch"
    assert records[small.cut_short].code == "file_truncated"
    assert all(records[name].mean_dice > 0.85 for name in small.sound)
    written = Store().list_files(join(bucket, "out"))
    for name in (small.misaligned, small.cut_short):
        assert not [url for url in written if f"/{name}" in url]
    assert {summary.report, summary.table} <= set(written)
    sidecar = json.loads(Store().read(records[small.sound[0]].output.replace(".nii.gz", ".json")))
    assert sidecar["windows"] == records[small.sound[0]].windows > 0
    assert set(sidecar["seconds"]) >= {"read", "infer", "forward", "merge", "write", "total"}


def test_a_night_of_other_cases_has_those_of_the_nights_before_in_its_numbers(cohort):
    bucket, small = cohort
    first, second = small.sound[:2]
    store = Store()

    def night(case):
        one = settings_of(bucket, small, images=f"{small.images}/{case}*", masks=None,
                          require_masks=False)  # fmt: skip
        _, summary = run_all(one)
        table = store.read(summary.report.replace("report.html", "statistics.csv")).decode()
        return summary, {line.split(",")[0] for line in table.splitlines()[1:]}

    assert night(first)[1] == {first}
    summary, cases = night(second)
    assert cases == {first, second}
    page = store.read(summary.report).decode()
    assert "1 other cases of earlier runs" in page
    assert "cases of earlier runs, upward" in page
    assert sum(summary.counts.values()) == 1
    store.write(join(small.images, f"{first}.nii.gz"), b"no longer a volume")
    summary, cases = night(first)
    assert summary.counts["quarantined"] == 1
    assert cases == {first, second}  # its label map is that of the first night


def test_a_case_is_skipped_only_if_input_weights_and_settings_match(cohort):
    bucket, small = cohort
    settings = settings_of(bucket, small)
    _, made = run_all(settings)
    first, summary = run_all(settings)
    assert [first[name].status for name in small.sound] == ["skipped", "skipped"]
    assert first[small.sound[0]].dice is not None
    for name in ("statistics.csv", "statistics.parquet"):  # of the whole output, not only tonight's
        then, now = (
            Store().read(one.report.replace("report.html", name)) for one in (made, summary)
        )
        assert then == now
        assert all(case.encode() in now for case in small.sound)

    other = settings.model_copy(update={"windows": WindowSettings(overlap=0.25)})
    anew, _ = run_all(other)
    assert [anew[name].status for name in small.sound] == ["done", "done"]

    store, url = Store(), join(small.images, f"{small.sound[0]}.nii.gz")
    store.write(url, store.read(join(small.images, f"{small.sound[1]}.nii.gz")))
    store.write(
        join(small.masks, f"{small.sound[0]}.nii.gz"),
        store.read(join(small.masks, f"{small.sound[1]}.nii.gz")),
    )
    changed, _ = run_all(other)
    assert [changed[name].status for name in small.sound] == ["done", "skipped"]

    store.remove(changed[small.sound[1]].output)
    gone, _ = run_all(other)
    assert [gone[name].status for name in small.sound] == ["skipped", "done"]
    again, _ = run_all(other.model_copy(update={"resume": False}))
    assert [again[name].status for name in small.sound] == ["done", "done"]


@pytest.mark.slow
def test_a_killed_run_is_finished_by_the_next(long_cohort, s3_env, tmp_path):
    """kill -9 after the first label map: no half object is visible, and nothing is done twice."""
    bucket, small = long_cohort
    command = [
        sys.executable, "-m", "unet_pipeline", "segment", small.images, "--masks", small.masks,
        "--model", "phantom", "--output", join(bucket, "out"), "--cluster", "serial",
        "--threads", "1", "--json", "--require-masks",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if json.loads(line).get("status") == "done":
                process.send_signal(signal.SIGKILL)
                break
    store = Store()
    sidecars = [u for u in store.list_files(join(bucket, "out")) if u.endswith("_dseg.json")]
    assert len(sidecars) == 1
    for url in store.list_files(join(bucket, "out")):
        if url.endswith(".nii.gz"):
            local = tmp_path / "label.nii.gz"
            local.write_bytes(store.read(url))
            assert np.asarray(nib.load(local).dataobj).max() <= 2
    records, _ = run_all(settings_of(bucket, small))
    assert sorted(records[name].status for name in small.sound) == ["done", "skipped"]


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(long_cohort):
    """kill -9 of a Dask worker in the middle: its tiles are done again, the bytes are the same."""
    from threading import Timer

    from unet_pipeline.cluster.spec import ClusterSpec
    from unet_pipeline.cluster.starting import open_executor
    from unet_pipeline.jobs.segment import segment_case

    bucket, small = long_cohort
    windows = WindowSettings(tile=(24, 24, 24), overlap=0.5)
    settings = settings_of(bucket, small, windows=windows, resume=False)
    run = open_segment(settings)
    case = next(c for c in run.cases if c.name == small.sound[0])
    expected = Store().read(segment_case(run, case, SerialExecutor()).output)
    with open_executor(ClusterSpec("local", 2)) as executor:
        begin = time.monotonic()
        segment_case(run, case, executor)
        third = (time.monotonic() - begin) / 3  # of the time that it takes undisturbed
        pid = executor.result(executor.submit(os.getpid))
        Timer(third, os.kill, (pid, signal.SIGKILL)).start()
        begin = time.monotonic()
        record = segment_case(run, case, executor)
        assert time.monotonic() - begin > third, "the worker was killed after the case"
    assert record.status == "done", record.message
    assert Store().read(record.output) == expected


def test_no_patient_text_leaves_the_input(tmp_path):
    name = "DOE^JANE"
    values = np.random.default_rng(0).integers(0, 300, (40, 40, 40)).astype(np.int16)
    for folder, broken in (("a", False), ("b", True)):
        image = nib.Nifti1Image(values, np.eye(4))
        for field, size in (
            ("descrip", 80),
            ("aux_file", 24),
            ("intent_name", 16),
            ("db_name", 18),
        ):
            image.header[field] = name.encode()[:size]
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", name.encode()))
        (tmp_path / "in").mkdir(exist_ok=True)
        path = tmp_path / "in" / f"{folder}.nii"
        data = image.to_bytes()
        path.write_bytes(data[:-5] if broken else data)
    settings = SegmentSettings(
        images=str(tmp_path / "in"), model="phantom", output=str(tmp_path / "out"), cluster=SERIAL
    )
    records, _ = run_all(settings)
    assert [records[case].status for case in "ab"] == ["done", "quarantined"]
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".gz":
                content = gzip.decompress(content)
            assert b"JANE" not in content, path
    assert "JANE" not in json.dumps([record.as_dict() for record in records.values()])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"images": "s3://no-such-bucket-here/x"}, "bucket_missing"),
        ({"model": "nonsense"}, "bundle_missing"),
        ({"output": "s3://no-such-bucket-here/out"}, "bucket_missing"),
    ],
)
def test_a_wrong_request_stops_before_any_work(cohort, changes, code):
    bucket, small = cohort
    with pytest.raises(RequestError) as caught:
        open_segment(settings_of(bucket, small, **changes))
    assert caught.value.code == code
    assert not [u for u in Store().list_files(bucket) if "/out/" in u]


def test_wrong_keys_stop_before_any_work(cohort, monkeypatch):
    bucket, small = cohort
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-wrong-secret")
    with pytest.raises(RequestError) as caught:
        open_segment(settings_of(bucket, small))
    assert caught.value.code == "access_denied"
    assert "wrong-secret" not in str(caught.value)


def test_channels_that_do_not_match_and_lone_files_are_named(tmp_path):
    store, root = Store(), str(tmp_path)
    small = small_cohort(store, root)
    store.remove(join(small.images, f"{small.sound[0]}.nii.gz"))
    store.remove(join(small.masks, f"{small.sound[1]}.nii.gz"))
    records, _ = run_all(settings_of(root, small))
    assert {name: record.code for name, record in records.items()} == {
        small.sound[0]: "image_missing",
        small.sound[1]: "mask_missing",
        small.misaligned: "origin_mismatch",
        small.cut_short: "file_truncated",
    }
    image = join(small.images, f"{small.misaligned}.nii.gz")
    store.write(join(root, "m.csv"), f"case,image\ntwo,{image};{image}\n".encode())
    records, _ = run_all(settings_of(root, small, images=join(root, "m.csv"), masks=None))
    assert records["two"].code == "channels_mismatch"
