"""What `compare` refuses before work: models named twice, other labels, other channels."""

import pytest
from bundles import random_bundle

from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.compare import check_same_task, parse_models
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.storage.store import Store


def code_of(call, *arguments) -> str:
    with pytest.raises(RequestError) as caught:
        call(*arguments)
    return caught.value.code


def test_names_and_seeds():
    assert parse_models(["s3://m/unet/", "half=/models/a", "half=s3://m/b?x=1", "phantom"]) == {
        "unet": ["s3://m/unet/"],
        "half": ["/models/a", "s3://m/b?x=1"],
        "phantom": ["phantom"],
    }
    assert parse_models(["/a/run 1=x/net+", "b"]) == {"net+": ["/a/run 1=x/net+"], "b": ["b"]}
    assert parse_models(["..", "/x/.hidden"]) == {"model": [".."], "hidden": ["/x/.hidden"]}


@pytest.mark.parametrize(
    ("models", "code"),
    [
        (["one"], "models_too_few"),
        (["u=a", "u=b"], "models_too_few"),
        (["/x/unet", "/y/unet"], "models_clash"),
        (["/x/unet", "unet=/y"], "models_clash"),
        (["unet=/y", "/x/unet"], "models_clash"),
        (["u=a", "u=a", "v=b"], "models_clash"),
    ],
)
def test_models_that_cannot_be_told_apart(models, code):
    assert code_of(parse_models, models) == code


def test_bundles_of_another_task(tmp_path):
    store = Store()
    bundles = {
        name: load_bundle(random_bundle(tmp_path / name, features=(4, 8), **options), store)
        for name, options in {
            "plain": {}, "same": {"seed": 1}, "labels": {"classes": 4}, "channels": {"channels": 2},
        }.items()
    }  # fmt: skip
    check_same_task([bundles["plain"], bundles["same"]])
    assert code_of(check_same_task, [bundles["plain"], bundles["labels"]]) == "labels_differ"
    assert code_of(check_same_task, [bundles["plain"], bundles["channels"]]) == "channels_differ"
