"""A night costs what is new: finished cases are known by listings and an index."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from cohorts import write_tiny
from test_cohort import SERIAL

from unet_pipeline import case_runs
from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import SegmentSettings
from unet_pipeline.jobs.segment import close_models, faults_of, open_segment, run_segment
from unet_pipeline.storage import marks
from unet_pipeline.storage.finished_index import NAME, Line, change_index, read_index
from unet_pipeline.storage.store import Store, join

CASES = [f"phantom-{number:02}" for number in range(1, 6)]


@pytest.fixture
def place(tmp_path, monkeypatch) -> str:
    """A folder with five scans; files that were written just now have marks, too."""
    monkeypatch.setattr(marks, "JUST_NOW_NS", -1)
    write_tiny(Store(), str(tmp_path), 5)
    return str(tmp_path)


@pytest.fixture
def bucket(s3_env) -> str:
    where = s3_env.bucket("nights")
    write_tiny(Store(), where, 5)
    return where


@pytest.fixture(params=["bucket", "place"])
def anywhere(request) -> str:
    return request.getfixturevalue(request.param)


@pytest.fixture
def looked_at(monkeypatch) -> list[str]:
    """The cases whose headers were read."""
    found, examine = [], case_runs.examine

    def counted(store, case, policy):
        found.append(case.name)
        return examine(store, case, policy)

    monkeypatch.setattr(case_runs, "examine", counted)
    return found


def night(place: str, **changes):
    settings = SegmentSettings(
        images=join(place, "images"), model="phantom", output=join(place, "out"), cluster=SERIAL,
        **changes,
    )  # fmt: skip
    run = open_segment(settings)
    records = [*faults_of(run), *run_segment(run, SerialExecutor())]
    (summary,) = close_models(run, records, seconds=1.0, workers=1)
    return run, {record.case: record for record in records}, summary


def statuses(records) -> dict[str, str]:
    return {name: record.status for name, record in sorted(records.items())}


def read(summary, name: str) -> bytes:
    return Store().read(summary.report.replace("report.html", name))


def test_the_second_night_reads_no_case_and_says_the_same(anywhere, looked_at):
    _, first, summary = night(anywhere)
    assert statuses(first) == dict.fromkeys(CASES, "done")
    looked_at.clear()
    run, second, again = night(anywhere)
    assert looked_at == []
    assert statuses(second) == dict.fromkeys(CASES, "skipped")
    assert {name: one.output for name, one in second.items()} == {
        name: one.output for name, one in first.items()
    }
    assert read(again, "statistics.csv") == read(summary, "statistics.csv")
    assert (len(run.night.known), run.night.again, run.night.failed) == (
        5,
        frozenset(),
        frozenset(),
    )


def test_what_is_new_changed_damaged_or_gone_is_looked_at_and_nothing_else(anywhere, looked_at):
    night(anywhere)
    store, images, out = Store(), join(anywhere, "images"), join(anywhere, "out")
    scans = [store.read(join(images, f"{case}.nii.gz")) for case in CASES]
    store.write(join(images, "new.nii.gz"), scans[0])
    store.write(join(images, f"{CASES[0]}.nii.gz"), scans[1])
    store.write(join(images, f"{CASES[1]}.nii.gz"), scans[1][:-8])  # cut short
    store.write(join(out, f"{CASES[2]}_dseg.nii.gz"), b"edited by hand")
    store.remove(join(out, f"{CASES[3]}_dseg.json"))
    store.remove(join(images, f"{CASES[4]}.nii.gz"))
    looked_at.clear()
    run, records, _ = night(anywhere)
    assert run.night.gone == (CASES[4],)
    assert run.expected == (
        "5 cases: 2 new, 3 to look at again; 1 label maps without their images: phantom-05"
    )
    assert sorted(looked_at) == ["new", *CASES[:4]]
    assert statuses(records) == {
        "new": "done", CASES[0]: "done", CASES[1]: "quarantined", CASES[2]: "quarantined",
        CASES[3]: "quarantined",
    }  # fmt: skip
    assert records[CASES[2]].code == records[CASES[3]].code == "output_foreign"
    looked_at.clear()
    run, again, _ = night(anywhere)
    assert sorted(looked_at) == CASES[1:4]
    assert run.night.failed == frozenset(CASES[1:4])
    assert statuses(again) == {
        name: "skipped" if status == "done" else status
        for name, status in statuses(records).items()
    }


@pytest.mark.parametrize("harm", [
    "damaged", "without its table",
    *(pytest.param(harm, marks=pytest.mark.soak) for harm in ("lost", "a stranger's")),
])  # fmt: skip
def test_an_index_that_is_lost_or_damaged_costs_a_look_at_every_record(place, looked_at, harm):
    _, first, summary = night(place)
    url, store = join(place, "out", NAME), Store()
    data = store.read(url)
    if harm == "lost":
        store.remove(url)
    elif harm == "without its table":
        store.remove(summary.report.replace("report.html", "archive.json"))
    else:
        store.write(url, data[:40] if harm == "damaged" else b"\x1f\x8b strange")
    for looks in (CASES, []):
        looked_at.clear()
        _, records, _ = night(place)
        assert sorted(looked_at) == looks
        assert statuses(records) == dict.fromkeys(CASES, "skipped")
        assert records[CASES[0]].windows == first[CASES[0]].windows > 0


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"verify": True}, "skipped"), ({"gate": {"affine_voxels": 0.4}}, "skipped"),
     pytest.param({"resume": False}, "done", marks=pytest.mark.soak),
     pytest.param({"postprocess": ("largest",)}, "done", marks=pytest.mark.soak)],
)  # fmt: skip
def test_other_settings_and_other_rules_believe_no_index(place, looked_at, changes, status):
    night(place)
    looked_at.clear()
    _, records, _ = night(place, **changes)
    assert sorted(looked_at) == CASES
    assert statuses(records) == dict.fromkeys(CASES, status)


def test_a_file_that_is_changed_under_its_old_size_and_time_is_noticed(
    tmp_path, looked_at, monkeypatch
):
    write_tiny(Store(), str(tmp_path), 5)
    night(str(tmp_path))
    looked_at.clear()
    night(str(tmp_path))
    assert sorted(looked_at) == CASES  # written just now: they could change and look the same
    monkeypatch.setattr(marks, "JUST_NOW_NS", -1)
    night(str(tmp_path))
    image = tmp_path / "images" / f"{CASES[0]}.nii.gz"
    data, then = bytearray(image.read_bytes()), image.stat()
    data[4] ^= 1  # of the time in gzip's header: the same voxels in other bytes
    image.write_bytes(data)
    os.utime(image, ns=(then.st_atime_ns, then.st_mtime_ns))
    looked_at.clear()
    _, records, _ = night(str(tmp_path))
    assert looked_at == CASES[:1]
    assert records[CASES[0]].status == "done"


def test_a_folder_has_no_mark(place):
    """What changes within it does not show in its times."""
    image = join(place, "images", f"{CASES[0]}.nii.gz")
    assert list(marks.marks_of(Store(), [place, image], [])) == [image]


def test_a_part_of_the_cohort_knows_its_own_and_calls_no_other_gone(place, looked_at):
    night(place)
    looked_at.clear()
    parts = [night(place, shard=f"{number}/3") for number in (1, 2, 3)]
    assert looked_at == []
    assert sorted(name for _, records, _ in parts for name in records) == CASES
    assert {run.night.gone for run, _, _ in parts} == {()}
    assert {summary.shard for _, _, summary in parts} == {f"{n}/3" for n in (1, 2, 3)}
    page = read(parts[0][2], "report.html").decode()
    assert "1/3 of the cohort" in page


def test_runs_that_end_at_once_lose_no_line_of_the_index(place):
    output, each = join(place, "out"), 6

    def change(number: int) -> None:
        cases = [f"case-{number}-{line}" for line in range(each)]
        change_index(Store(), output, cases, [Line(case, code="size_mismatch") for case in cases])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(change, range(6)))
    found = [line.case for line, _ in read_index(Store(), output)]
    assert sorted(found) == sorted(f"case-{run}-{line}" for run in range(6) for line in range(each))
