import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unet_pipeline.errors import CaseError
from unet_pipeline.records import CaseRecord
from unet_pipeline.report.table import attention_order, cases_csv, markdown_table, table_rows
from unet_pipeline.texts import shown

DONE = CaseRecord(
    "sub-01/anat/sub-01_T1w",
    "done",
    output="s3://archive/out/sub-01/anat/sub-01_T1w_dseg.nii.gz",
    windows=8,
    dice={"1": 0.9, "10": None, "2": 0.7},
    seconds={"total": 1.5, "infer": 1.2, "read": 0.25, "upload": 0.125},
    figure="s3://archive/out/sub-01/anat/sub-01_T1w_dseg.png",
    bytes_read=1000,
    bytes_written=90,
)
SKIPPED = CaseRecord("sub-02", "skipped", output="s3://archive/out/sub-02_dseg.nii.gz")
_ERROR = CaseError(
    "mask_off_grid",
    found='a mask 12.4 mm away ("late" export)',
    wanted="at most 0.5 mm",
    remedy="Export the mask again",
    subject="sub-03",
)
QUARANTINED = CaseRecord("sub-03", "quarantined", code=_ERROR.code, message=str(_ERROR))
RECORDS = [DONE, SKIPPED, QUARANTINED]


def parsed(text):
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_a_case_that_the_gate_warns_about_comes_before_the_calm_ones():
    flagged = CaseRecord("z", "done", code="content_doubtful", dice={"1": 0.99})
    assert attention_order([DONE, flagged, QUARANTINED]) == [QUARANTINED, flagged, DONE]


def test_csv_to_the_letter():
    assert cases_csv(RECORDS) == (
        "case,status,code,message,output,windows,mean_dice,dice_1,dice_2,dice_10,"
        "seconds_read,seconds_infer,seconds_upload,seconds_total,bytes_read,bytes_written,figure,mask_code,"
        "mask_message,confidence\r\n"
        "sub-01/anat/sub-01_T1w,done,,,s3://archive/out/sub-01/anat/sub-01_T1w_dseg.nii.gz,8,"
        "0.8000,0.9000,0.7000,,0.250,1.200,0.125,1.500,1000,90,"
        "s3://archive/out/sub-01/anat/sub-01_T1w_dseg.png,,,\r\n"
        "sub-02,skipped,,,s3://archive/out/sub-02_dseg.nii.gz,0,,,,,,,,,0,0,,,,\r\n"
        'sub-03,quarantined,mask_off_grid,"sub-03: found a mask 12.4 mm away (""late"" export); '
        'wanted at most 0.5 mm. Export the mask again.",,0,,,,,,,,,0,0,,,,\r\n'
    )


def test_csv_of_no_case_is_its_heading():
    assert cases_csv([]) == (
        "case,status,code,message,output,windows,mean_dice,bytes_read,bytes_written,figure,mask_code,mask_message,confidence\r\n"
    )


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\uff1d"])
def test_a_spreadsheet_runs_no_case_name(start):
    name = f'{start}HYPERLINK("x")'
    (row,) = parsed(cases_csv([CaseRecord(name, "done", message=name, output=name)]))
    assert row["case"] == row["message"] == row["output"] == f"'{name}"


@given(st.lists(st.text(), max_size=3), st.text(), st.text())
def test_every_text_comes_back_from_the_csv(names, message, label):
    records = [CaseRecord(name, "quarantined", message=message) for name in names]
    records.append(CaseRecord("last", "done", dice={label: 0.5}))
    rows = list(csv.reader(io.StringIO(cases_csv(records), newline=""), strict=True))
    assert {len(row) for row in rows} == {14}
    for row, name in zip(rows[1:], names, strict=False):
        written = shown(name)
        assert row[0] in (written, f"'{written}")


def test_a_name_that_is_no_utf8_can_be_written():
    bad = CaseRecord("scan\udcff", "quarantined", message="\udcff")
    for text in (cases_csv([bad]), markdown_table([bad]), json.dumps(table_rows([bad]))):
        assert "scan<U+DCFF>" in text.encode("utf-8").decode()


def test_what_needs_a_look_comes_first():
    good, bad = (CaseRecord(name, "done", dice={"1": v}) for name, v in (("a", 0.9), ("b", 0.2)))
    unknown = CaseRecord("c", "done", dice={"1": float("nan")})
    ordered = attention_order([SKIPPED, unknown, good, QUARANTINED, bad])
    assert ordered == [QUARANTINED, bad, good, unknown, SKIPPED]


def test_rows_are_json_with_the_same_keys():
    strange = CaseRecord("x", "done", dice={"1": np.float32(0.5)}, seconds={"total": float("inf")})
    rows = table_rows([*RECORDS, strange])
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert len({tuple(row) for row in rows}) == 1
    assert rows[0]["case"] == "sub-03"
    assert rows[0]["code"] == "mask_off_grid"
    assert rows[1] == {
        "case": "x",
        "status": "done",
        "code": "",
        "mean_dice": 0.5,
        "dice_1": 0.5,
        "dice_2": None,
        "dice_10": None,
        "seconds": None,
        "output": None,
        "message": "",
        "mask": "",
    }


def test_markdown_to_the_letter():
    assert markdown_table(RECORDS) == (
        "| Case | Status | Mean Dice | Seconds | Label map, or reason |\n"
        "| --- | --- | ---: | ---: | --- |\n"
        "| `sub-03` | quarantined |  |  | `mask_off_grid` found a mask 12.4 mm away "
        '\\("late" export\\); wanted at most 0.5 mm. Export the mask again. |\n'
        "| `sub-01/anat/sub-01_T1w` | done | 0.800 | 1.5 "
        "| `s3://archive/out/sub-01/anat/sub-01_T1w_dseg.nii.gz` |\n"
        "| `sub-02` | skipped |  |  | `s3://archive/out/sub-02_dseg.nii.gz` |\n"
    )


def test_markdown_names_what_it_leaves_out():
    records = [CaseRecord(f"case-{index}", "done") for index in range(1500)]
    text = markdown_table(records, limit=2)
    assert text.count("\n| `case-") == 2
    assert text.endswith("\n\n1,498 more cases are in `cases.csv`.\n")
    assert "more cases" not in markdown_table(records, limit=1500)


@given(st.text(alphabet="ab|`\\\n<>[]()*_", max_size=12))
def test_no_name_breaks_the_markdown_table(name):
    (_, _, line) = markdown_table([CaseRecord(name, "quarantined", message=name)]).splitlines()
    unescaped = line.replace("\\\\", "").replace("\\|", "")
    assert unescaped.count("|") == 6
    outside_code = "".join(unescaped.split("`")[::2])
    assert "<" not in outside_code.replace("\\<", "")
