"""A fault of the store stops every command alike: exit status 3, its line, and its report."""

import re
import shutil
from pathlib import Path

import pytest
from bundles import random_bundle
from cohorts import write_tiny
from command_line import cli
from faulty_s3 import EXPIRED, PASS

from unet_pipeline.storage import outage
from unet_pipeline.storage.store import join

LOOKED = ("--threads", "1", "--windows", "1", "--groups", "0", "--voxels", "500")
SERIAL = ("--cluster", "serial", "--threads", "1")


@pytest.fixture(autouse=True)
def no_waits(monkeypatch):
    monkeypatch.setattr(outage, "WAITS_SECONDS", ())
    monkeypatch.setattr(outage, "UPLOAD_WAITS_SECONDS", ())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped") / "nested"
    return random_bundle(folder, network="unetpp", features=(4, 4, 8, 8, 16, 4))


@pytest.fixture(scope="module")
def bucket(s3):
    bucket = s3.bucket("stopped")
    write_tiny(s3.store, bucket, 2)
    return bucket


def words(command, bucket, bundle, output):
    images, masks, output = join(bucket, "images"), join(bucket, "masks"), ("--output", output)
    named = {
        "segment": (images, "--masks", masks, "--model", bundle, *output, *SERIAL),
        "plan": (images, "--model", bundle, "--no-measure"),
        "check": (images, "--masks", masks, *output),
        "check --content": (images, "--masks", masks, *output, "--content"),
        "check --fix": (images, "--masks", masks, "--fix", output[1]),
        "train": (
            images, masks, *output, "--steps", "1", "--features", "4,8,16", "--network", "unet",
            "--roi-size", "32,32,32", "--threads", "1",
        ),
        "depths": (images, "--masks", masks, "--model", bundle, *output, *SERIAL),
        "compare": (images, f"a={bundle}", f"b={bundle}", "--masks", masks, *output, *SERIAL),
        "layers": (images, "--masks", masks, "--model", bundle, *output, *LOOKED),
        "bundle calibrate": (bundle, images, masks),
    }  # fmt: skip
    return *command.replace("--content", "").replace("--fix", "").split(), *named[command]


def commands(short, *long):
    """Name commands in the short form of a test, and those that join in the long one."""
    return [*short, *(pytest.param(one, marks=pytest.mark.soak) for one in long)]


def keys_run_out_when(begins):
    """Return a rule under which no request is answered once ``begins`` has held for one."""
    over = []

    def rule(request):
        if over or begins(request):
            over.append(request)
            return EXPIRED
        return PASS

    return rule


def of_reports(request):
    return request.method == "PUT" and "/runs/" in request.path


@pytest.mark.parametrize(
    "command",
    commands(
        ("plan", "check", "train", "bundle calibrate"),
        *("segment", "check --content", "check --fix", "depths", "compare", "layers"),
    ),
)
def test_keys_that_run_out_at_the_first_case_stop_it(command, bucket, bundle, proxy):
    proxy.restart(keys_run_out_when(lambda request: "/images/phantom-" in request.path))
    done = cli(*words(command, bucket, bundle, join(bucket, f"first-{command[-4:]}")))
    assert done.returncode == 3, done.stderr
    assert "ExpiredToken" in done.stderr
    assert "Traceback" not in done.stderr
    if command in {"segment", "check", "check --content"}:
        report = Path(re.search(r"Report  (\S+)", done.stdout)[1])
        assert report.is_file()  # on this machine, for the store takes none
        shutil.rmtree(report.parent)


@pytest.mark.parametrize("command", commands(("check",), "segment", "depths", "compare", "layers"))
def test_a_report_that_the_store_does_not_take_lies_on_this_machine(command, bucket, bundle, proxy):
    part = "speed.png" if command == "depths" else ""  # whose bundles lie beside its report
    proxy.restart(keys_run_out_when(lambda asked: of_reports(asked) and part in asked.path))
    done = cli(*words(command, bucket, bundle, join(bucket, f"report-{command}")))
    assert done.returncode == 3, done.stderr
    assert "ExpiredToken" in done.stderr
    report = Path(re.search(r"Report  (\S+)", done.stdout)[1])
    assert report.is_file()
    shutil.rmtree(report.parent)


@pytest.mark.soak
def test_a_training_that_was_stopped_goes_on(bucket, bundle, proxy):
    output = join(bucket, "model")
    asked = words("train", bucket, bundle, output)
    proxy.restart(keys_run_out_when(lambda request: "model.safetensors" in request.path
        and request.method == "PUT"))  # fmt: skip
    assert cli(*asked).returncode == 3
    proxy.restart()
    assert cli(*asked).returncode == 0


@pytest.mark.parametrize("command", commands(("train",), "segment", "check", "depths", "layers"))
def test_a_request_that_is_wrong_from_the_first_is_no_stop(command, bucket, bundle, proxy):
    proxy.restart(lambda request: EXPIRED)
    done = cli(*words(command, bucket, bundle, join(bucket, "never")))
    assert done.returncode == 2, done.stderr
    assert "ExpiredToken" in done.stderr
