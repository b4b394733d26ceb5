"""A call that Dask begins again, because its worker died, does no case that it has finished."""

import pytest
from bundles import random_bundle
from cohorts import write_tiny

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.pipeline import segment_once
from unet_pipeline.storage.claims import Claim, written_since
from unet_pipeline.storage.ledger import digest_bytes
from unet_pipeline.storage.store import Store


class Repeating(SerialExecutor):
    """Begins each call of a case a second time, as where its worker died at the end of it."""

    def submit(self, function, *arguments):
        if function is segment_once:
            super().submit(function, *arguments)
        return super().submit(function, *arguments)


@pytest.fixture
def opened(tmp_path):
    write_tiny(Store(), str(tmp_path), 2)
    settings = SegmentSettings(
        images=str(tmp_path / "images"), output=str(tmp_path / "out"),
        model=random_bundle(tmp_path / "bundle", features=(4, 8)),
        cluster=ClusterSettings(kind="serial", threads=1), resume=False,
    )  # fmt: skip
    return lambda **changes: open_segment(settings.model_copy(update=changes))


def test_a_call_that_is_repeated_returns_the_record_that_it_wrote(opened, inferences):
    records = [*run_segment(opened(), Repeating())]
    assert [one.status for one in records] == ["done", "done"]
    assert len(inferences) == 2


def test_of_several_models_only_what_is_left_is_done_again(opened, inferences, tmp_path):
    class HalfDone(SerialExecutor):
        def submit(self, function, *arguments):
            if function is segment_once:
                super().submit(function, *arguments)
                for path in (tmp_path / "out").rglob("second/**/*_dseg.json"):
                    path.unlink()
            return super().submit(function, *arguments)

    second = random_bundle(tmp_path / "second", features=(4, 8), seed=1)
    run = opened(also=(second,))
    assert [one.status for one in run_segment(run, HalfDone())] == ["done"] * 4
    assert len(inferences) == 2 * (2 + 1)


def test_a_run_that_is_to_do_all_again_does(opened, inferences):
    for _ in range(2):
        assert {one.status for one in run_segment(opened(), Repeating())} == {"done"}
    assert len(inferences) == 4


def test_only_what_was_finished_under_a_claim_counts(opened, tmp_path):
    run = opened()
    assert {one.status for one in run_segment(run, SerialExecutor())} == {"done"}
    output, store = run.output_of(run.cases[0]), Store()

    def found(run_id, record):
        mine = Claim(output, run_id, record=None if record is None else digest_bytes(record))
        return written_since(store, mine, ".nii.gz")

    data = store.read(f"{output}.json")
    assert found(run.run_id, None).case == run.cases[0].name
    assert found(run.run_id, data) is None
    assert found("another", None) is None
    store.remove(f"{output}.nii.gz")
    assert found(run.run_id, None) is None
