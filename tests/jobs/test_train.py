import json

import pytest
from trainings import train

from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import CardSettings, SegmentSettings, TrainSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.segment import open_segment, segment_case
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.phantoms import write_cohort
from unet_pipeline.storage.folders import OwnFiles
from unet_pipeline.storage.store import Store
from unet_pipeline.training.card import CardFacts, model_card
from unet_pipeline.training.command import command_line
from unet_pipeline.training.history import Spread

STORE = Store()
NOTE = CardSettings(
    title="Organs of phantoms",
    data="Synthetic.",
    licence="Apache-2.0",
    label_names=("large organ", "small organ"),
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(STORE, str(folder), 5, misaligned=True)
    (folder / "images/phantom-02.nii.gz").write_bytes(b"\x1f\x8b damaged")
    return folder


def settings_for(cohort, output, **changes):
    options = {
        "images": str(cohort / "images"),
        "masks": str(cohort / "masks"),
        "output": str(output),
        "network": "unetplus",
        "features": (4, 8),
        "roi_size": (16, 16, 16),
        "spacing": (4.0, 4.0, 4.0),
        "steps": 6,
        "batch": 1,
        "holdout": 0.3,
        "threads": 1,
        "checkpoint_every": 2,
    }
    return TrainSettings(**{**options, **changes})


def files_of(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_cohort_becomes_a_bundle(cohort, tmp_path):
    steps, seen = [], []
    settings = settings_for(cohort, tmp_path / "model", card=NOTE)
    report = train(
        settings, lambda done, _: steps.append(done), lambda h: seen.append(len(h.losses))
    )
    assert steps == [1, 2, 3, 4, 5, 6]
    assert seen == [0, 2, 4, 6]
    assert {name for name, _ in report.faults} == {"phantom-02", "phantom-05"}
    assert len(report.training) == 2
    assert len(report.held_out) == 1
    assert {*report.training, *report.held_out} == {"phantom-01", "phantom-03", "phantom-04"}
    assert report.dice.keys() == {1, 2}
    assert report.mean_dice is not None
    json.dumps(report.as_dict(), allow_nan=False)

    bundle = load_bundle(report.bundle, STORE)
    load_network(bundle, STORE)
    assert bundle.labels == {0: "background", 1: "large organ", 2: "small organ"}
    assert bundle.roi_size == (16, 16, 16)
    card = (tmp_path / "model/docs/README.md").read_text()
    for text in ("Synthetic.", "Apache-2.0", "1 CPU thread;", *report.held_out, "small organ"):
        assert text in card
    assert "sha256:" in card
    assert command_line(settings) in card
    assert {name for name in files_of(tmp_path / "model") if name.startswith("training")} == {
        "training/.unet-pipeline.json",
        "training/curves.png",
        "training/history.json",
        *(f"training/events.out.tfevents.{step:010d}" for step in (2, 4, 6)),
    }


def test_its_dice_is_that_of_segment(cohort, tmp_path):
    report = train(settings_for(cohort, tmp_path / "model", steps=12, memory_gb=0))
    request = {
        "images": str(cohort / "images"),
        "masks": str(cohort / "masks"),
        "model": str(tmp_path / "model"),
        "output": str(tmp_path / "out"),
        "cluster": {"kind": "serial", "threads": 1},
    }
    run = open_segment(SegmentSettings.model_validate(request))
    (case,) = (case for case in run.cases if case.name in report.held_out)
    found = segment_case(run, case, SerialExecutor()).dice
    assert {int(label): value for label, value in found.items()} == report.dice


def test_the_same_settings_give_the_same_weights(cohort, tmp_path):
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        settings = settings_for(cohort, tmp_path / name, seed=seed, steps=2)
        digests.append(load_bundle(train(settings).bundle, STORE).weights_digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_manifest_says_what_is_kept_aside(cohort, tmp_path):
    rows = ["case,image,mask,split"]
    for number, part in ((1, "train"), (3, "validation"), (4, "test")):
        files = [f"{cohort}/{kind}/phantom-{number:02d}.nii.gz" for kind in ("images", "masks")]
        rows.append(",".join([f"phantom-{number:02d}", *files, part]))
    manifest = cohort / f"{tmp_path.name}.csv"
    manifest.write_text("\n".join(rows))
    settings = settings_for(cohort, tmp_path / "model", images=str(manifest), masks=None, steps=1)
    report = train(settings)
    assert (report.training, report.held_out) == (("phantom-01",), ("phantom-03",))
    assert "phantom-04" not in (tmp_path / "model/docs/README.md").read_text()


def test_a_training_under_way_is_not_gone_on_with_on_another_split(cohort, tmp_path):
    def settings(*parts):
        rows = ["case,image,mask,split"]
        for number, part in zip((1, 3, 4), parts, strict=True):
            files = [f"{cohort}/{kind}/phantom-{number:02d}.nii.gz" for kind in ("images", "masks")]
            rows.append(",".join([f"phantom-{number:02d}", *files, part]))
        manifest = cohort / f"{tmp_path.name}.csv"
        manifest.write_text("\n".join(rows))
        return settings_for(cohort, tmp_path / "model", images=str(manifest), masks=None)

    def stop(done, _loss):
        if done == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(settings("train", "train", "val"), on_step=stop)
    with pytest.raises(RequestError, match="split sha256") as error:
        train(settings("train", "val", "train"))  # what was trained on would be scored
    assert error.value.code == "checkpoint_other"


def test_the_command_repeats_what_was_asked():
    settings = TrainSettings(
        images="s3://b/my images",
        masks="s3://b/masks",
        output="model",
        features=(8, 16),
        steps=9,
        attention=True,
        loss={"name": "focal", "class_weights": (1, 2, 3)},
        card=NOTE,
    )
    words = command_line(settings)
    assert words.startswith("unet-pipeline train 's3://b/my images' s3://b/masks")
    for option in (
        "--features 8,16",
        "--roi-size 32,48,32",
        "--steps 9",
        "--attention",
        "--loss focal",
        "--class-weights 1.0,2.0,3.0",
        "--label-names 'large organ,small organ'",
        "--output model",
    ):
        assert option in words
    assert "spacing" not in words
    assert "tversky" not in words


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"roi_size": (16, 16, 17)}, "roi_size_invalid"),
        ({"network": "unetpp", "features": (4, 4, 4, 4, 4, 4, 4)}, "roi_size_invalid"),
        ({"network": "unet", "attention": True}, "network_option_unknown"),
        ({"images": "nowhere-at-all"}, "folder_missing"),
        ({"classes": 2}, "labels_without_channel"),
        ({"loss": {"name": "weighted", "class_weights": (1, 2)}}, "class_weights_mismatch"),
        ({"loss": {"name": "tversky", "class_weights": (1, 2, 3)}}, "class_weights_unused"),
        ({"loss": {"head_weights": (1, 2, 3)}}, "head_weights_mismatch"),
        ({"fold": "1"}, "fold_missing"),
    ],
)
def test_a_wrong_request_is_refused_before_the_first_step(cohort, tmp_path, changes, code):
    with pytest.raises(RequestError) as error:
        train(settings_for(cohort, tmp_path / "model", **changes))
    assert error.value.code == code
    assert files_of(tmp_path) == set()


def test_names_of_files_are_no_markdown_on_the_card():
    facts = CardFacts(
        TrainSettings(images="i", output="o", card={"label_names": ("a|b",)}),
        "unet", [], (8, 8, 8), (1.0, 1.0, 1.0), 1, 1, 1,
        "by seed", "sha256:0", ["x"], ["<b>y_1", "z"], [], {0: "background", 1: "a|b"},
        {1: Spread.of([0.5])}, 0.1, 1.0, "1 CPU thread",
    )  # fmt: skip
    card = model_card(facts)
    assert "`<b>y_1`, `z`" in card
    assert r"| 1 | a\|b | 1 | 0.5000 |" in card


def test_more_names_than_labels_are_refused(cohort, tmp_path):
    with pytest.raises(RequestError) as error:
        train(settings_for(cohort, tmp_path, card={"label_names": ("a", "b", "c")}))
    assert error.value.code == "label_names_mismatch"


def test_a_cohort_without_a_sound_case_is_refused(tmp_path):
    write_cohort(STORE, str(tmp_path), 1, misaligned=True)
    with pytest.raises(RequestError, match="origin_mismatch") as error:
        train(settings_for(tmp_path, tmp_path / "model"))
    assert error.value.code == "no_training_cases"
    assert files_of(tmp_path / "model") == set()


@pytest.mark.parametrize(("empty", "code"), [("images", "cohort_empty"), ("masks", "masks_empty")])
def test_an_empty_cohort_is_refused(tmp_path, empty, code):
    write_cohort(STORE, str(tmp_path), 1)
    (tmp_path / empty / "phantom-01.nii.gz").unlink()
    with pytest.raises(RequestError) as error:
        train(settings_for(tmp_path, tmp_path / "model"))
    assert error.value.code == code
    assert files_of(tmp_path / "model") == set()


def test_a_training_under_way_is_not_mixed_with_another(cohort, tmp_path):
    def stop(done, _loss):
        if done == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(settings_for(cohort, tmp_path), on_step=stop)
    with pytest.raises(RequestError, match=r"seed 0, now 1\. |seed 0, now 1;") as error:
        train(settings_for(cohort, tmp_path, seed=1))
    assert error.value.code == "checkpoint_other"
    with pytest.raises(RequestError, match="data sha256"):
        train(settings_for(cohort, tmp_path, images=f"{cohort}/images/*-0[345]*"))
    steps = []
    train(
        settings_for(cohort, tmp_path, seed=1, resume=False), on_step=lambda n, _: steps.append(n)
    )
    assert steps == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("steps", "holdout"), [(40, 0.3), (1, 0.3), (1, 0.0)])
def test_a_training_that_diverges_leaves_nothing(cohort, tmp_path, steps, holdout):
    settings = settings_for(
        cohort,
        tmp_path / "model",
        steps=steps,
        holdout=holdout,
        optimiser={"name": "sgd", "learning_rate": 1e30, "schedule": "constant"},
    )
    with pytest.raises(RequestError) as error:
        train(settings)
    assert error.value.code == "loss_not_finite"
    assert files_of(tmp_path) == set()


def test_a_bundle_that_was_there_is_replaced_as_a_whole(cohort, tmp_path):
    OwnFiles(STORE, f"{tmp_path}/model").write({"configs/adaptive.json": b"{} of other weights"})
    train(settings_for(cohort, tmp_path / "model", steps=1))
    assert load_bundle(f"{tmp_path}/model", STORE).adaptive is None


def test_a_bundle_of_another_hand_is_not_replaced(cohort, tmp_path):
    STORE.write(f"{tmp_path}/model/configs/adaptive.json", b"{} of another hand")
    with pytest.raises(RequestError) as caught:
        train(settings_for(cohort, tmp_path / "model", steps=1))
    assert caught.value.code == "output_foreign"
    assert [*files_of(tmp_path / "model")] == ["configs/adaptive.json"]
