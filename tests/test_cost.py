"""What cases and runs cost: arithmetic by eye, and a real run against its sidecars."""

import doctest
import json

import pytest
from cohorts import small_cohort

from unet_pipeline import cost
from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, CostSettings, SegmentSettings
from unet_pipeline.cost import added, device_seconds, expected_seconds, run_cost, with_wait
from unet_pipeline.jobs.segment import close_segment, faults_of, open_segment, run_segment
from unet_pipeline.records import CaseRecord, Rate
from unet_pipeline.report.cost import cost_markdown, cost_sentence, shares_of
from unet_pipeline.report.quantities import money_text
from unet_pipeline.storage.store import Store, join
from unet_pipeline.volume.probe import probe_header

A = CaseRecord(
    "a",
    "done",
    windows=8,
    seconds={"read": 1.0, "infer": 7.0, "forward": 6.0, "wait": 2.0, "total": 10.0},
    bytes_read=1_000_000,
    bytes_written=3_000,
)
B = CaseRecord("b", "done", windows=4, seconds={"infer": 3.0, "forward": 3.0, "total": 3.0})
OLD = CaseRecord("old", "skipped", windows=8, seconds={"forward": 6.0}, bytes_read=400)
BAD = CaseRecord("bad", "quarantined")


def test_the_examples_in_the_module():
    assert doctest.testmod(cost).failed == 0


def test_a_run_of_an_hour_on_two_workers():
    found = run_cost([A, B, OLD, BAD], seconds=3600.0, workers=2, rate=Rate(1.5, "EUR"))
    assert (found.cases, found.windows) == (2, 12)
    assert found.worker_seconds == 7200
    assert found.device_seconds == 9
    assert found.busy_share == 9 / 7200
    assert found.stage_seconds == {
        "read": 1.0, "infer": 10.0, "forward": 9.0, "wait": 2.0, "total": 13.0,
    }  # fmt: skip
    assert (found.bytes_read, found.bytes_written) == (1_000_400, 3_000)
    assert found.cases_per_hour == 2
    assert (found.price, found.price_per_case) == (3.0, 1.5)


def test_cases_are_expected_to_take_as_long_as_earlier_ones():
    """Ten seconds and twenty each, so 12 more take 180 s, and three at a time 60."""
    known = [[A], [A, A]]  # the second by two models
    assert expected_seconds(known, 12, at_once=1) == 180.0
    assert expected_seconds(known, 12, at_once=3) == 60.0
    assert expected_seconds(known, 2, at_once=3) == 15.0  # no more than two are under way
    assert expected_seconds(known, 0, at_once=3) is None
    assert expected_seconds([], 12, at_once=3) is None


def test_a_skipped_case_takes_no_device_seconds_and_none_done_has_no_price_each():
    assert [device_seconds(record) for record in (A, OLD, BAD)] == [6.0, 0.0, 0.0]
    found = run_cost([OLD], seconds=36.0, workers=1, rate=Rate(1.0, "EUR"))
    assert (found.device_seconds, found.busy_share, found.cases_per_hour) == (0.0, 0.0, 0.0)
    assert (found.price, found.price_per_case) == (0.01, None)
    assert run_cost([], seconds=0.0, workers=1).busy_share == 0.0


def test_tiles_side_by_side_leave_no_wait_below_zero():
    assert with_wait({"infer": 8.0, "forward": 7.0}, 5.0)["wait"] == 0.0
    assert with_wait({"infer": 2.0, "wait": 9.0, "total": 9.0}, 5.0)["wait"] == 3.0
    assert added([]) == {}


def test_no_second_is_shown_twice():
    found = run_cost([A, B], seconds=20.0, workers=1)
    assert shares_of(found) == [
        ("Read and decode", 1.0, 1 / 11),
        ("Around the network", 1.0, 1 / 11),
        ("Network", 9.0, 9 / 11),
    ]


def test_the_cost_in_words():
    found = run_cost([A, B], seconds=18.0, workers=1)
    assert cost_sentence(found) == (
        "9.0 s in the network of 18.0 s of workers' time: devices were busy 50%; "
        "400 cases per hour; 1 MB read, 3 kB written."
    )
    priced = run_cost([A, B], seconds=1800.0, workers=4, rate=Rate(1.2, "EUR"))
    assert cost_sentence(priced).endswith(
        "Price 2.40 EUR, 1.20 EUR a case, at 1.20 EUR an hour of a worker."
    )
    assert "| Network | 9.0 | 82% |" in cost_markdown(found)
    assert [money_text(x, "USD") for x in (0, 0.00234, 1234.5)] == [
        "0.00 USD", "0.0023 USD", "1,234.50 USD",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A cohort of two sound cases and two at fault, run twice; the second run skips."""
    root = str(tmp_path_factory.mktemp("cost"))
    small = small_cohort(Store(), root)
    settings = SegmentSettings(
        images=small.images,
        masks=small.masks,
        require_masks=True,
        model="phantom",
        output=join(root, "out"),
        cluster=ClusterSettings(kind="serial", threads=1),
        cost=CostSettings(hourly_rate=36.0, currency="EUR"),
    )
    return small, [_run(settings) for _ in range(2)]


def _run(settings):
    run = open_segment(settings)
    records = [*faults_of(run), *run_segment(run, SerialExecutor())]
    return records, close_segment(run, records, seconds=100.0, workers=1)


def _sidecars(records):
    done = [record for record in records if record.status == "done"]
    return [json.loads(Store().read(r.output.replace(".nii.gz", ".json"))) for r in done]


def test_the_stages_of_a_case_of_one_tile_lie_within_its_time(runs):
    _, [(records, _), _] = runs
    for sidecar in _sidecars(records):
        seconds = sidecar["seconds"]
        assert set(seconds) == {
            "gate", "read", "preprocess", "look", "load", "infer", "forward", "merge", "evaluate",
            "draw", "write", "wait", "total",
        }  # fmt: skip
        assert min(seconds.values()) >= 0
        assert 0 < seconds["forward"] <= seconds["infer"]
        stages = sum(v for k, v in seconds.items() if k not in ("forward", "total"))
        assert stages == pytest.approx(seconds["total"], abs=0.001)  # each is rounded


def test_the_cost_of_a_run_is_what_its_sidecars_say(runs):
    _, [(records, summary), _] = runs
    sidecars = _sidecars(records)
    found = json.loads(Store().read(summary.report.replace("report.html", "cost.json")))
    assert found == json.loads(json.dumps(summary.cost.as_dict()))
    for stage in ("forward", "infer", "read", "write"):
        wanted = sum(sidecar["seconds"][stage] for sidecar in sidecars)
        assert found["stage_seconds"][stage] == pytest.approx(wanted, abs=1e-6)
    forward = sum(sidecar["seconds"]["forward"] for sidecar in sidecars)
    assert found["device_seconds"] == pytest.approx(forward, abs=1e-6)
    assert found["windows"] == sum(sidecar["windows"] for sidecar in sidecars) > 0
    assert found["bytes_written"] == sum(sidecar["bytes"]["written"] for sidecar in sidecars)
    assert (found["cases"], found["price"], found["price_per_case"]) == (2, 1.0, 0.5)


def test_bytes_are_those_of_the_stored_files(runs):
    small, [(records, _), _] = runs
    for record in (r for r in records if r.status == "done"):
        inputs = [join(place, f"{record.case}.nii.gz") for place in (small.images, small.masks)]
        headers = sum(probe_header(Store(), url).bytes_read for url in inputs)
        assert record.bytes_read == headers + sum(map(_size, inputs))
        assert record.bytes_written == _size(record.output) + _size(record.figure)


def _size(url):
    return Store().fingerprint(url).size


def test_a_run_that_skips_costs_no_device_time(runs):
    small, [_, (records, summary)] = runs
    assert summary.counts == {"done": 0, "skipped": 2, "quarantined": 2}
    cost = summary.cost
    assert (cost.cases, cost.windows, cost.device_seconds, cost.bytes_written) == (0, 0, 0, 0)
    assert cost.price_per_case is None
    for record in (r for r in records if r.status == "skipped"):  # local files have no etag
        assert record.bytes_read > _size(join(small.images, f"{record.case}.nii.gz"))


def test_the_table_shares_the_price_by_seconds_in_the_network(runs):
    _, [(_, summary), _] = runs
    head, *lines = Store().read(summary.table).decode().splitlines()
    assert head.endswith("figure,mask_code,mask_message,confidence,price")
    prices = [float(line.rsplit(",", 1)[1]) for line in lines]
    assert sum(prices) == pytest.approx(1.0, abs=1e-5)
    assert sorted(prices)[:2] == [0.0, 0.0]  # those at fault
