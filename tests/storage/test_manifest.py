import sys
from collections import Counter

import pytest

from unet_pipeline.errors import RequestError
from unet_pipeline.records import Case
from unet_pipeline.storage.manifest import parse_manifest, read_manifest
from unet_pipeline.storage.store import Store, join

URL = "s3://bucket/lists/cohort.csv"


def test_csv():
    text = (
        "\ufeffcase, Image ,mask,comment\r\n"
        "a,../images/a.nii,masks/a.nii,first\r\n"
        "\r\n"
        '"b/c, d.nii.gz", s3://other/t1.nii ; t2.nii,,\r\n'
        "e,/local/e.nii"
    )
    assert parse_manifest(text.encode(), URL) == (
        Case("a", ("s3://bucket/images/a.nii",), "s3://bucket/lists/masks/a.nii"),
        Case("b/c, d", ("s3://other/t1.nii", "s3://bucket/lists/t2.nii")),
        Case("e", ("/local/e.nii",)),
    )


@pytest.mark.parametrize(
    "text",
    [
        "case,image,mask,\r\na,x.nii,m.nii,\r\n,,,\r\n \r\nb,y.nii;z.nii,,\r\n,,\r\n",
        '\ufeffcase;image;mask\r\na;x.nii;m.nii\r\n;;\r\nb;"y.nii;z.nii";\r\n',
        "case\timage\tmask\na\tx.nii\tm.nii\n\t\t\nb\ty.nii;z.nii\n",
        '"case","image","mask"\n"a","x.nii","m.nii"\n"","",""\n"b","y.nii;z.nii",""\n',
        "case,image,mask\na,x.nii,m.nii\nb,y.nii;z.nii,,,,\na,x.nii,m.nii\n",
        "comment,image,case,mask\nx,x.nii,a,m.nii\nx,y.nii;z.nii,b,\n",
    ],
)
def test_what_spreadsheets_write_is_read(text):
    """Empty rows, CRLF, a mark of byte order, trailing commas, semicolons, quotes, rows again."""
    assert parse_manifest(text.encode(), "/m/cohort.csv") == (
        Case("a", ("/m/x.nii",), "/m/m.nii"),
        Case("b", ("/m/y.nii", "/m/z.nii")),
    )


def test_the_work_of_a_manifest_grows_with_its_rows_alone(tmp_path):
    """Calls of functions are counted, which no busy machine makes more: 2,000,000 take seconds."""

    def calls(rows: int) -> int:
        """Return how many functions, of Python and of C, reading so many rows calls."""
        cells = (f"s-{i},img/s-{i}.nii.gz,msk/s-{i}.nii.gz\n" for i in range(rows))
        (tmp_path / "cohort.csv").write_text("case,image,mask\n" + "".join(cells))
        counted = Counter()
        sys.setprofile(lambda frame, event, arg: counted.update([event]))
        try:
            assert len(read_manifest(Store(), str(tmp_path / "cohort.csv"))) == rows
        finally:
            sys.setprofile(None)
        return counted["call"] + counted["c_call"]

    calls(10)  # what is imported and kept at the first time
    assert (calls(3_000) - calls(1_000)) / 2_000 < 60


def test_json_lines():
    first = '{"case": "a", "image": "a.nii;b.nii", "mask": null, "age": 3}'
    text = first + '\n\n{"case": "b", "image": "é.nii"}'
    assert parse_manifest(text.encode(), "/data/cohort.jsonl") == (
        Case("a", ("/data/a.nii", "/data/b.nii")),
        Case("b", ("/data/é.nii",)),
    )


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "line 1, column case"),
        ("case|image\na|b\n", "line 1, column case"),
        ("case;image\na;b;c\n", "line 2"),
        ("case,image\na,b\n,,,\n,,,d\n", "line 4"),
        ("case,mask\na,b\n", "line 1, column image"),
        ("case,case,image\na,b,c\n", "line 1, column case"),
        ("case,image\na,b\nc,d,e,f\n", "line 3"),
        ('case,image\na,"b\n', "line 2"),
        ('case,image\na,b\nc,"d"e\n', "line 3"),
        ("case,image\na,b\nb,\n", "line 3, column image"),
        ("case,image\na,b\nb,x;;y\n", "line 3, column image"),
        ("case,image\na,b\nb\n", "line 3, column image"),
        ("case,image\na,b\n,x\n", "line 3, column case"),
        ("case,image\na,b\nb,x\na,y\n", "line 4, column case"),
        ("case,image\n../a,b\n", "line 2, column case"),
        ("case,image\n/a,b\n", "line 2, column case"),
        ("case,image\na\\b,b\n", "line 2, column case"),
        ("case,image\na,../../other-bucket/x\n", "line 2, column image"),
        ("case,image,mask\na,b,../../../../x\n", "line 2, column mask"),
        ("case,image,priority\na,b,2\nc,d,first\n", "line 3, column priority"),
        ("case,image,priority\na,b,\nc,d,nan\n", "line 3, column priority"),
    ],
)
def test_csv_faults_name_line_and_column(text, where):
    with pytest.raises(RequestError) as caught:
        parse_manifest(text.encode(), URL)
    assert caught.value.code == "manifest_invalid"
    assert f"cohort.csv, {where}:" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"case": "a", "image": "x"}\n{"case": ', "line 2"),
        ('["a", "x"]', "line 1"),
        ('{"case": 7, "image": "x"}', "line 1, column case"),
        ('{"case": "a"}', "line 1, column image"),
        ('{"case": "a", "image": ["x"]}', "line 1, column image"),
        ('{"case": "a\\u0000", "image": "x"}', "line 1, column case"),
        ('{"case": ' + "9" * 5000 + "}", "line 1"),
        ("[" * 100_000, "line 1"),
        ('{"case": "a", "image": "x", "priority": true}', "line 1, column priority"),
        ('{"case": "a", "image": "x", "priority": [1]}', "line 1, column priority"),
    ],
)
def test_json_faults_name_line_and_column(text, where):
    with pytest.raises(RequestError) as caught:
        parse_manifest(text.encode(), "/data/cohort.jsonl")
    assert caught.value.code == "manifest_invalid"
    assert f"cohort.jsonl, {where}:" in str(caught.value)


def test_other_encodings_are_refused():
    with pytest.raises(RequestError) as caught:
        parse_manifest("case,image\na,b\nü,c\n".encode("latin-1"), URL)
    assert "line 3:" in str(caught.value)


def test_a_manifest_that_is_missing(tmp_path):
    with pytest.raises(RequestError) as caught:
        read_manifest(Store(), str(tmp_path / "cohort.csv"))
    assert caught.value.code == "manifest_missing"


def test_a_manifest_may_say_what_training_does_with_a_case():
    table = b"case,image,split,fold\na,a.nii,Train,0\nb,b.nii,,\n"
    cases = parse_manifest(table, "memory://m/cohort.csv")
    assert [(case.split, case.fold) for case in cases] == [("train", "0"), ("", "")]
    line = b'{"case": "a", "image": "a.nii", "fold": 3}\n'
    (case,) = parse_manifest(line, "memory://m/cohort.jsonl")
    assert (case.split, case.fold) == ("", "3")
    with pytest.raises(RequestError, match="column fold"):
        parse_manifest(line.replace(b"3", b"[3]"), "memory://m/cohort.jsonl")


@pytest.mark.parametrize(
    "row",
    [
        "{0}", "file://{0}", "FILE://{0}", "local://{0}", "/{0}", "simplecache::file://{0}",
        "s3://other/x.nii.gz", "S3A://other/x.nii.gz", "~/x.nii.gz", "http://127.0.0.1/x.nii.gz",
    ],
)  # fmt: skip
def test_a_manifest_in_a_store_names_no_file_of_the_machine_that_reads_it(s3, tmp_path, row):
    (tmp_path / "x.nii.gz").write_bytes(b"of the machine")
    manifest = join(s3.bucket("manifest"), "cohort.csv")
    place = row.format(tmp_path / "x.nii.gz")
    s3.store.write(manifest, f"case,image\na,{place}\n".encode())
    with pytest.raises(RequestError) as caught:
        read_manifest(s3.store, manifest)
    assert caught.value.code == "manifest_outside"
