"""Texts of a bundle and names of files reach no border as what a terminal or a page would obey."""

import csv
import io
import json
import logging
import re
import subprocess
import sys

import pytest
from bundles import CT, random_bundle, transform
from cohorts import write_tiny
from command_line import cli
from hostile_texts import HOSTILE, MARKUP, hostile_bundle, obeyed
from rich.table import Table
from rich.text import Text

from unet_pipeline.console import _Terminal
from unet_pipeline.processes import guard_logs
from unet_pipeline.records import CaseRecord
from unet_pipeline.report.table import cases_csv, markdown_table, table_rows
from unet_pipeline.storage.store import Store


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A run over a cohort whose files, folders and bundle have hostile names, and what it said."""
    folder = tmp_path_factory.mktemp("hostile")
    write_tiny(Store(), str(folder / "in"), 1)
    (folder / "in/images" / f"{HOSTILE}.nii.gz").write_bytes(b"no volume")
    (folder / "in/images" / f"=1+1 {MARKUP}.nii.gz").write_bytes(b"no volume")
    bundle = hostile_bundle(folder / f"bundle {MARKUP}\x1b[2J")
    done = cli("-v", "segment", str(folder / "in/images"), "--model", bundle,
               "--output", str(folder / "out"), "--cluster", "serial")  # fmt: skip
    assert done.returncode == 1, done.stderr
    return folder, bundle, done


def test_the_terminal_and_the_log_of_a_run(hostile):
    said = hostile[2].stdout + hostile[2].stderr
    assert not obeyed(said)
    assert "case_name_unsafe" in said
    assert f"=1+1 {MARKUP}" in " ".join(said.split())  # no brackets are lost to markup


def test_report_table_and_sidecar_of_a_run(hostile):
    (run,) = (hostile[0] / "out/runs").glob("*Z-*")
    (sidecar,) = (hostile[0] / "out").rglob("*_dseg.json")
    page = (run / "report.html").read_text()
    assert not obeyed(re.sub(r"<style>.*?</style>|<script>.*?</script>", "", page, flags=re.S))
    assert "<img src=x" not in page
    assert not obeyed(json.loads(sidecar.read_text())["labels"]["1"])
    assert not obeyed(json.loads(sidecar.read_text())["model"])
    rows = list(csv.reader(io.StringIO((run / "cases.csv").read_text())))
    assert not [cell for row in rows for cell in row if obeyed(cell) or cell.startswith("=")]
    assert [row[0] for row in rows if row[0].startswith("'=1+1")]


def test_inspect_and_refusals_say_a_bundle_without_obeying_it(hostile, tmp_path):
    done = cli("bundle", "inspect", hostile[1])
    assert done.returncode == 0, done.stderr
    assert not obeyed(done.stdout)
    assert "<U+202E>" in "".join(done.stdout.split())
    unknown = transform(f"monai.{HOSTILE}{MARKUP}d")
    refused = random_bundle(tmp_path / "b", features=(4, 8), preprocessing=(*CT, unknown))
    done = cli("segment", "x", "--model", refused, "--output", str(tmp_path / "out"))
    assert (done.returncode, obeyed(done.stderr)) == (2, [])
    assert "[red]" in done.stderr


def test_terminals_obey_nothing_that_is_printed():
    text = io.StringIO()
    terminal = _Terminal(file=text, force_terminal=True, color_system=None, width=60)
    table = Table(title=f"{HOSTILE} {MARKUP}")
    table.add_column("[bold]name")
    table.add_row(f"{MARKUP}\x1b]0;title\x07")
    for printed in (table, Text(HOSTILE), f"{HOSTILE}{MARKUP}"):
        terminal.print(printed)
    assert not obeyed(text.getvalue())
    assert "[bold]name" in text.getvalue()
    assert "[red]" in text.getvalue()


def test_our_loggers_write_one_showable_line_a_record():
    script = (
        "import logging, sys\n"
        "from unet_pipeline.processes import guard_logs\n"
        "guard_logs(); guard_logs()\n"
        "logging.basicConfig(level=logging.INFO)\n"
        "logging.getLogger('unet_pipeline.x').info('case %s', 'a\\x1b[2J\\nINFO:forged \\u202e')\n"
        "try: raise ValueError('\\x1b[2J')\n"
        "except ValueError: logging.getLogger('unet_pipeline.x').exception('as it was')\n"
        "logging.getLogger('other').info('two %d', 2)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "INFO:unet_pipeline.x:case a<U+001B>[2J<U+000A>INFO:forged <U+202E>\n" in done.stderr
    assert "ValueError: <U+001B>[2J" in done.stderr
    assert done.stderr.endswith("INFO:other:two 2\n")


def test_records_of_strange_sidecars_stay_in_their_cells():
    record = CaseRecord(
        case=f"{HOSTILE}|`{MARKUP}", status="quarantined", code=HOSTILE,
        message=f"@SUM(1)\n| a | {MARKUP}", dice={f"1{HOSTILE}": 0.5},
    )  # fmt: skip
    for start in ("=", "+", "-", "@", "\t=", "\r", "\uff1d"):
        text = cases_csv([CaseRecord(case=f"{start}1", status="done")])
        assert text.splitlines()[1][0] in "'<"
    assert len(list(csv.reader(io.StringIO(cases_csv([record]), newline="")))) == 2
    assert not obeyed(cases_csv([record]))
    assert not obeyed(json.dumps(table_rows([record]), ensure_ascii=False))
    lines = markdown_table([record]).splitlines()
    assert len(lines) == 3
    assert not obeyed(lines[2])
    assert not re.search(r"(?<!\\)<img|(?<!\\)\[link|(?<!\\)`\$", lines[2])


def test_guarding_logs_twice_is_once():
    guard_logs()
    factory = logging.getLogRecordFactory()
    guard_logs()
    assert logging.getLogRecordFactory() is factory


def test_records_that_dask_forwards_from_workers_can_still_be_made():
    code = (
        "import logging; from unet_pipeline.processes import guard_logs; guard_logs()\n"
        "print(logging.makeLogRecord({'name': 'unet_pipeline.x', 'msg': 'done'}).getMessage())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "done"
