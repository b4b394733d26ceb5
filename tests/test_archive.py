"""The last table has the whole archive: whatever order runs had, and whatever lies there."""

import csv
import io
from dataclasses import replace

import pytest

from unet_pipeline import archive
from unet_pipeline.archive import Mark, others_in, read_archive
from unet_pipeline.records import CaseRecord
from unet_pipeline.report.statistics_table import statistics_csv
from unet_pipeline.storage.store import Store, join

MARK = Mark("sha256:ab", {"1": "liver"})


def of(*cases, **values):
    statistics = {"1": {"voxels": 7, "volume_ml": 1.5, "cut": "LS"} | values}
    return [CaseRecord(case, "done", statistics=statistics) for case in cases]


@pytest.fixture
def output(tmp_path):
    return Output(join(str(tmp_path), "runs"))


class Output:
    """Runs over one output, each with its own cases."""

    def __init__(self, runs):
        self.runs, self.store = runs, Store()

    def seen_by(self, *cases, mark=MARK):
        return read_archive(self.store, self.runs, mark, cases)

    def write(self, run_id, records, found):
        table = statistics_csv(records, MARK.labels, found.tables)
        self.store.write(join(self.runs, run_id, archive.TABLE), table.encode())
        self.store.write(join(self.runs, run_id, archive.NAME), found.mark_bytes())

    def run(self, run_id, *cases, mark=MARK):
        self.write(run_id, of(*cases), self.seen_by(*cases, mark=mark))

    def cases(self, run_id):
        table = self.store.read(join(self.runs, run_id, archive.TABLE)).decode()
        return [row["case"] for row in csv.DictReader(io.StringIO(table, newline=""))]


def test_each_table_has_all_cases_of_the_tables_before(output):
    for run_id, cases in (("1", "ab"), ("2", "c"), ("3", "bd")):
        output.run(run_id, *cases)
    assert [output.cases(one) for one in "123"] == [[*"ab"], [*"abc"], [*"abcd"]]
    found = output.seen_by("c", "e")
    assert found.cases == 3
    assert found.mark.runs == ("1", "2", "3")
    assert len(found.tables) == 1
    assert [one.case for one in found.records] == [*"abd"]
    assert found.records[0].statistics == of("a")[0].statistics
    assert [one.case for one in others_in(output.store, join(output.runs, "2/statistics.csv"), "a")
            ] == [*"bc"]  # fmt: skip


def test_runs_at_the_same_time_are_both_counted(output):
    output.run("1", "a")
    both = output.seen_by("b"), output.seen_by("c")
    output.write("2", of("b"), both[0])
    output.write("3", of("c"), both[1])
    output.run("4", "d")
    assert output.cases("4") == [*"abcd"]


def test_another_model_does_not_count_and_hides_nothing(output):
    output.run("1", "a")
    output.run("2", "b", mark=replace(MARK, weights="sha256:cd"))
    output.run("3", "c", mark=replace(MARK, labels={"1": "spleen"}))
    assert [one.case for one in output.seen_by().records] == ["a"]


@pytest.mark.parametrize("damage", [
    b"", b"case,label\r\n", b"<html>", b'case,label,name\r\n"' + b"x" * 200_000 + b'"',
])  # fmt: skip
def test_a_table_that_is_none_leaves_those_before(output, damage):
    output.run("1", "a")
    output.run("2", "b")
    output.store.write(join(output.runs, "2", archive.TABLE), damage)
    assert [one.case for one in output.seen_by().records] == ["a"]


def test_what_a_stranger_wrote_into_a_table_stays_text(output):
    output.run("1", "=a", "b")
    url = join(output.runs, "1", archive.TABLE)
    lines = output.store.read(url).decode().split("\r\n")
    lines[1:1] = ["x", "c,1,liver,1e400,nan,", f"d,{'9' * 5000},liver,7,1.5,"]
    output.store.write(url, "\r\n".join(lines).encode())
    found = {one.case: one.statistics for one in output.seen_by("b").records}
    assert found == {"c": {"1": {"voxels": "1e400", "volume_ml": "nan"}},
                     "=a": of("=a")[0].statistics}  # fmt: skip
    output.store.write(join(output.runs, "1", archive.NAME), b"{")
    assert output.seen_by().cases == 0


def test_of_a_large_archive_whole_subjects_are_learned_from(output, monkeypatch):
    scans = [f"sub-{i:02}/ses-{j}/T1w" for i in range(30) for j in (1, 2)]
    output.run("1", *scans)
    monkeypatch.setattr(archive, "MOST_LINES", 21)
    found = output.seen_by("sub-07/ses-3/T1w")
    names = {one.case for one in found.records}
    assert found.cases == 60
    assert len(names) == 20
    assert {"sub-07/ses-1/T1w", "sub-07/ses-2/T1w"} <= names
    assert all({one.replace("ses-1", "ses-2"), one.replace("ses-2", "ses-1")} <= names
               for one in names)  # fmt: skip
    assert found.records == output.seen_by("sub-07/ses-3/T1w").records
