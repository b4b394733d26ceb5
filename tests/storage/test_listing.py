"""Listings of S3: whatever the store does, each name once."""

from datetime import UTC, datetime

import pytest
from botocore.utils import parse_timestamp

from unet_pipeline.storage import listing
from unet_pipeline.storage.discovery import discover
from unet_pipeline.storage.listing import list_wanted
from unet_pipeline.storage.marks import marks_of
from unet_pipeline.storage.s3 import time_of
from unet_pipeline.storage.store import Store, join

KEYS = [f"out/case-{number:02}{end}" for number in range(30) for end in ("_dseg.json", "_dseg.png")]


class Bucket:
    """A store that lists two names a page, as it is told to."""

    def __init__(self, keys: list[str], *, knows_start: bool = True, fails: bool = False) -> None:
        self.keys, self.knows_start, self.fails = keys, knows_start, fails
        self.asked: list[str] = []

    def split_path(self, path: str) -> tuple[str, str, None]:
        bucket, _, key = path.partition("/")
        return bucket, key, None

    def call_s3(
        self, _, *, Prefix: str, StartAfter: str = "", ContinuationToken: str = "0", **_more
    ):
        self.asked.append(StartAfter)
        if StartAfter and self.fails:
            raise OSError("StartAfter is not known")
        names = [key for key in self.keys if key.startswith(Prefix)]
        if StartAfter and self.knows_start:
            names = [key for key in names if key > StartAfter]
        start = int(ContinuationToken)
        return {
            "Contents": [{"Key": key, "Size": 1, "ETag": key} for key in names[start : start + 2]],
            "IsTruncated": start + 2 < len(names),
            "NextContinuationToken": str(start + 2),
        }


@pytest.fixture(autouse=True)
def short_ranges(monkeypatch) -> None:
    monkeypatch.setattr(listing, "_NAMES_OF_RANGE", 3)


def found(bucket: Bucket, expected: list[str]) -> list[str]:
    names = [f"b/{key}" for key in expected]
    return [*list_wanted(bucket, "b/out", lambda name: name.endswith(".json"), names)]


RECORDS = [f"b/{key}" for key in KEYS if key.endswith(".json")]


@pytest.mark.parametrize(
    "expected",
    [KEYS, KEYS[:12], [f"out/absent-{number}" for number in range(20)], KEYS[:1], [*KEYS, "zz"]],
    ids=["all", "the first", "others", "one", "beyond"],
)
def test_ranges_give_what_one_listing_gives(expected):
    assert found(Bucket([*KEYS, "other/x.json"]), expected) == RECORDS


def test_a_large_prefix_is_listed_in_ranges():
    bucket = Bucket(KEYS)
    found(bucket, KEYS)
    assert len({after for after in bucket.asked if after}) > 3


@pytest.mark.parametrize("how", [{"knows_start": False}, {"fails": True}])
def test_a_store_that_begins_elsewhere_is_listed_once(how):
    assert found(Bucket(KEYS, **how), KEYS) == RECORDS


def test_a_store_without_an_order_is_listed_once():
    assert sorted(found(Bucket(KEYS[::-1]), KEYS)) == RECORDS


def test_a_real_store_gives_the_same_in_ranges(s3_env):
    store, place = Store(), s3_env.bucket("ranges")
    urls = [join(place, key) for key in KEYS]
    for number, url in enumerate(urls):
        store.write(url, bytes([number]))
    once = store.versions_below(join(place, "out"), lambda _: True)
    assert store.versions_below(join(place, "out"), lambda _: True, urls) == once
    assert sorted(once) == sorted(urls)


@pytest.mark.parametrize(
    "text",
    ["2026-11-30T19:21:10.301Z", "2026-11-30T19:21:10Z", "Mon, 30 Nov 2026 19:21:10 GMT", 1.5e9,
     "1500000000"],
)  # fmt: skip
def test_times_of_answers_are_those_of_botocore(text):
    assert time_of(text) == parse_timestamp(text)


def test_a_session_reads_times_of_a_listing(s3_env):
    store, place = Store(), s3_env.bucket("times")
    store.write(join(place, "x"), b"1")
    files, path = store._locate(place)
    (one,) = files.call_s3("list_objects_v2", Bucket=path)["Contents"]
    assert abs((datetime.now(UTC) - one["LastModified"]).total_seconds()) < 3600


def test_the_listing_of_a_cohort_gives_the_marks_of_its_files(s3_env):
    store, place = Store(), s3_env.bucket("marks")
    urls = [join(place, f"images/case-{number}.nii.gz") for number in range(3)]
    for url in urls:
        store.write(url, url.encode())
    cohort = discover(store, join(place, "images"))
    assert [case.images for case in cohort.cases] == [(url,) for url in urls]
    assert cohort.marks == marks_of(store, urls, [place])
    assert set(cohort.marks) == set(urls)
