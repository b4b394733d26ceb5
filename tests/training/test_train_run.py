import pytest

from unet_pipeline.config import TrainSettings
from unet_pipeline.errors import RequestError
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.phantoms import write_cohort
from unet_pipeline.storage.store import Store
from unet_pipeline.training.card import TrainingNote
from unet_pipeline.training.run import command_line, train

STORE = Store()
NOTE = TrainingNote(
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
        "features": (4, 4, 4, 4, 4),
        "roi_size": (32, 32, 32),
        "spacing": (4.0, 4.0, 4.0),
        "steps": 6,
        "batch": 1,
        "holdout": 0.3,
        "threads": 2,
    }
    return TrainSettings(**{**options, **changes})


@pytest.mark.parametrize("network", ["unetpp", "unet"])
def test_a_cohort_becomes_a_bundle(cohort, tmp_path, network):
    steps = []
    settings = settings_for(cohort, tmp_path / "model", network=network)
    report = train(settings, NOTE, lambda done, loss: steps.append(done))

    assert steps == [1, 2, 3, 4, 5, 6]
    assert len(report.losses) == 6
    assert {name for name, _ in report.faults} == {"phantom-02", "phantom-05"}
    assert len(report.training) == 2
    assert len(report.held_out) == 1
    assert {*report.training, *report.held_out} == {"phantom-01", "phantom-03", "phantom-04"}
    assert report.dice.keys() == {1, 2}
    assert report.mean_dice is not None

    bundle = load_bundle(report.bundle, STORE)
    load_network(bundle, STORE)
    assert bundle.labels == {0: "background", 1: "large organ", 2: "small organ"}
    assert bundle.roi_size == (32, 32, 32)
    card = (tmp_path / "model/docs/README.md").read_text()
    for text in ("Synthetic.", "Apache-2.0", "2 CPU threads", *report.held_out, "small organ"):
        assert text in card
    assert command_line(settings, NOTE) in card


def test_the_same_settings_give_the_same_weights(cohort, tmp_path):
    digests = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        settings = settings_for(cohort, tmp_path / name, seed=seed, steps=2, threads=1)
        digests.append(load_bundle(train(settings).bundle, STORE).weights_digest)
    assert digests[0] == digests[1] != digests[2]


def test_the_command_repeats_what_was_asked():
    settings = TrainSettings(
        images="s3://b/my images", masks="s3://b/masks", output="model", features=(8, 16), steps=9
    )
    words = command_line(settings, NOTE)
    assert words.startswith("unet-pipeline train 's3://b/my images' s3://b/masks")
    for option in (
        "--features 8,16",
        "--roi-size 32,48,32",
        "--steps 9",
        "--label-names 'large organ,small organ'",
        "--output model",
    ):
        assert option in words
    assert "spacing" not in words


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"roi_size": (32, 32, 40)}, "roi_size_invalid"),
        ({"images": "nowhere-at-all"}, "folder_missing"),
    ],
)
def test_a_wrong_request_is_refused_before_training(cohort, tmp_path, changes, code):
    with pytest.raises(RequestError) as error:
        train(settings_for(cohort, tmp_path / "model", **changes))
    assert error.value.code == code
    assert not (tmp_path / "model/configs").exists()


def test_a_cohort_without_a_sound_case_is_refused(tmp_path):
    write_cohort(STORE, str(tmp_path), 1, misaligned=True)
    with pytest.raises(RequestError, match="origin_mismatch") as error:
        train(settings_for(tmp_path, tmp_path / "model"))
    assert error.value.code == "no_training_cases"
