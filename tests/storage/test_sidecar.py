"""The record of a finished case: all of it is sound, or the case is not done."""

import json
from pathlib import Path

import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_values import places, planted, without
from sidecars import LABELS, PICTURE, SOUND, damaged, odd_texts, plain, sidecars

from unet_pipeline.evaluation.doubts import LEAST_CASES
from unet_pipeline.evaluation.review import review
from unet_pipeline.records import json_text
from unet_pipeline.report.label_sizes import label_sizes
from unet_pipeline.report.review_table import review_csv
from unet_pipeline.report.statistics_table import statistics_csv
from unet_pipeline.report.table import cases_csv, markdown_table, table_rows
from unet_pipeline.storage.ledger import digest_bytes
from unet_pipeline.storage.sidecar import Stamp, read_sidecar, read_stamp, stamped, write_sidecar

DATA = write_sidecar(SOUND)
CONTENT = json.loads(DATA)
OPEN = {"settings", "engine", "labels", "versions", "dice", "seconds", "inputs", "written",
        "fixed", "postprocessing_ignored", "members", "label_changes", "statistics", "1",
        "memory_steps",
        "decision", "roi_size"}  # fmt: skip
OPTIONAL = {
    ("mask_fault",),
    ("postprocessing_ignored",),
    ("members",),
    ("label_changes",),
    ("statistics",),
    ("memory_steps",),
}


@given(sidecars)
def test_what_is_written_is_read(sidecar):
    assert read_sidecar(write_sidecar(sidecar)) == sidecar


def test_a_record_of_the_version_before_is_read():
    """As it was written by 0.1.0 before the record had a type: the very bytes."""
    data = (Path(__file__).parent / "finished_case.json").read_bytes()
    found = read_sidecar(data)
    assert found.run.settings_digest.startswith("sha256:8786596c")
    assert (found.windows, found.gate.verdict, found.mask_fault) == (4, "pass", None)
    assert found.bytes.read == 99_741
    assert read_sidecar(write_sidecar(found)) == found


def test_the_form_on_disk():
    assert list(CONTENT)[:4] == ["made_by", "format", "state", "written"]
    assert CONTENT["weights"] == SOUND.run.weights
    assert CONTENT["gate"]["codes"] == ["mask_empty"]
    assert CONTENT["geometry"]["native"]["affine"][0][3] == -35.25


def test_any_key_taken_away():
    """What is open may hold less: a label without Dice, an input that is then asked for."""
    for place in [*places(CONTENT)][1:]:
        found = read_sidecar(json.dumps(without(CONTENT, place)).encode())
        may_miss = place in OPTIONAL or (len(place) > 1 and place[-2] in OPEN)
        assert (found is not None) == may_miss, place


def test_a_record_cut_anywhere():
    assert all(read_sidecar(DATA[:length]) is None for length in range(len(DATA.rstrip())))


def is_as_good_as_ours(data):
    """Whatever lies there gives nothing, or what table and page can show and a row can hold."""
    read_stamp(data)
    found = read_sidecar(data)
    if found is None:
        return
    row = found.record("skipped", "s3://out/a.nii.gz", "s3://out/a.png")
    assert json.loads(json_text(row.as_dict(), ensure_ascii=False).encode()) == json.loads(
        json.dumps(row.as_dict(), allow_nan=False)
    )
    assert (row.code != "") == (found.gate.verdict == "warn")
    cases_csv([row], 1.0, {}).encode()
    json.dumps(table_rows([row]), ensure_ascii=False).encode()
    markdown_table([row]).encode()
    statistics_csv([row], {}).encode()
    label_sizes([row] * LEAST_CASES)
    review_csv(review([row] * LEAST_CASES, least=0.0), {}).encode()


@settings(max_examples=examples(1000))
@given(damaged(DATA))
def test_any_damage(data):
    is_as_good_as_ours(data)


@pytest.mark.parametrize(
    "name",
    [
        *("voxels", "volume_ml", "parts", "cut", "centroid_x_mm"),
        *("confidence", "predicted_dice", "predicted_dice_high"),
    ],
)
@given(text=odd_texts | st.sampled_from(['"LR"', "-5", "1e308", "1e12", "0"]))
def test_any_value_of_a_statistic_can_be_shown(name, text):
    usual = {"voxels": 9, "volume_ml": 1.5, "x_min_mm": 0, "x_max_mm": 9, "centroid_x_mm": 4}
    usual |= {"confidence": 0.9, "predicted_dice": 0.8}
    usual |= {"predicted_dice_low": 0.7, "predicted_dice_high": 0.9}
    statistics = {"1": {**usual, name: "HERE"}, "2": usual}
    said = json.dumps({**CONTENT, "statistics": statistics}).replace('"HERE"', text)
    is_as_good_as_ours(said.encode())


@pytest.mark.parametrize("key", ["windows", "tiles", "windows_reused"])
@settings(max_examples=examples(50))
@given(text=odd_texts)
def test_counts_are_counts(key, text):
    found = read_sidecar(json.dumps({**CONTENT, key: "HERE"}).replace('"HERE"', text).encode())
    assert (found is not None) == (text.isdecimal() and int(text[:20]) < 2**53)


@pytest.mark.parametrize(
    ("place", "texts"),
    [
        (("format",), ["2", "true", '"1"', "null", "[1]"]),
        (("state",), ['"begun"', "null"]),
        (("made_by",), ['"dcm2niix"', "null"]),
        (("dice", "1"), ["NaN", "1.1", "-0.1", "true", '"0.5"', "1e999", "1" + "0" * 400]),
        (("dice",), ["[]", '{"\\ud800": 0.5}', '{"<b>": 0.5}']),
        (("seconds", "read"), ["NaN", "-1", "1e10", "null", "false"]),
        (("inputs",), ["null", "[1]", "[{}]", '"mask"']),
        (("inputs", 0, "role"), ['"other"', '["image0"]', '"image0\\n"']),
        (("inputs", 0, "size"), ['"5"', "5.0", "-1", "true", "9007199254740992"]),
        (("output", "sha256"), ["null", f'"{LABELS}\\n"', f'"{LABELS[:-1]}"', '"md5:0"']),
        (("output", "etag"), ["1"]),
        (("gate", "verdict"), ['"fail"', '"maybe"']),
        (("gate", "codes"), ["[]", '"mask_empty"', '["<b>"]']),
        (("gate", "message"), ["1", '"\\ud800"']),
        (("mask_fault", "message"), ["1", '"\\ud800"']),
        (("geometry", "native", "affine"), ["[]", "[[1, 0, 0, 0]]", "[1, 2, 3, 4]"]),
        (("settings",), ["[]", '{"overlap": NaN}']),
    ],
)
def test_what_is_not_sound(place, texts):
    for text in texts:
        data = json.dumps(planted(CONTENT, place, "HERE")).replace('"HERE"', text).encode()
        assert read_sidecar(data) is None, text
        is_as_good_as_ours(data)


@given(st.binary(max_size=200) | plain.map(lambda value: json.dumps(value).encode()))
def test_bytes_of_any_kind_are_no_record(data):
    assert read_sidecar(data) is None
    read_stamp(data)


def test_what_is_left_of_a_record_still_names_our_files():
    """Digests of inputs are not of our files: one that was copied over a label map is not ours."""
    assert read_stamp(DATA) == Stamp("before", frozenset({LABELS, PICTURE}))
    assert read_stamp(DATA[:-20]) == Stamp(None, frozenset({LABELS, PICTURE}))
    begun = stamped(state="begun", run_id="now", written=[PICTURE])
    assert read_stamp(begun) == Stamp("now", frozenset({PICTURE}))
    assert read_sidecar(begun) is None
    assert read_stamp(b'{"written": {"a": ' + b"[" * 10**5) is None
    assert read_stamp(b'{"RawSources": ["sub-01"]}') is None
    assert digest_bytes(b"image") not in read_stamp(DATA).files
