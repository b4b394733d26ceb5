"""Metrics of a real run: at its port, in its file, in a real Prometheus; and who asks for them."""

import json
import re
import shutil
import socket
import subprocess
import time
from urllib.parse import quote
from urllib.request import urlopen

import pytest
import yaml
from cohorts import write_tiny
from command_line import cli
from deploy_files import DEPLOY
from prometheus_client.parser import text_string_to_metric_families

from unet_pipeline.cli.cohorts import _segment
from unet_pipeline.config import SegmentSettings
from unet_pipeline.storage.store import Store
from unet_pipeline.watching.places import places_of
from unet_pipeline.watching.watch import watching

FOLDER = DEPLOY / "monitoring"
METRIC = re.compile(r"\bunet_pipeline_\w+")


def needs(program: str):
    there = shutil.which(program) is not None
    return pytest.mark.skipif(not there, reason=f"no {program}: apt-get install prometheus")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def samples(text: str) -> dict[tuple, float]:
    """Values by the name of a metric and what its labels say, without that of its file."""
    return {
        (
            one.name,
            *(value for key, value in sorted(one.labels.items()) if key != "name"),
        ): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run over two sound cases and a torn one; what it showed at its end, and left."""
    root = tmp_path_factory.mktemp("watched")
    write_tiny(Store(), str(root), 2)
    (root / "images" / "torn.nii.gz").write_bytes(b"torn")
    words = {"images": str(root / "images"), "model": "phantom", "output": str(root / "out")}
    settings = SegmentSettings(**words, cluster={"kind": "serial", "threads": 1})
    port, asked = free_port(), {}
    with watching(places_of(str(port), str(root / "night.prom"))) as watch:
        before = (root / "night.prom").read_text()
        begin, take = watch.begin, watch.take

        def begun(*told) -> None:
            begin(*told)
            asked["begun"] = get(f"http://127.0.0.1:{port}/metrics")

        def taken(records) -> None:
            take(records)
            asked[records[0].case] = get(f"http://127.0.0.1:{port}/metrics")

        watch.begin, watch.take = begun, taken
        assert _segment(settings, as_json=True, watch=watch) == 1
        text = get(f"http://127.0.0.1:{port}/metrics")
        if shutil.which("prometheus"):
            asked["prometheus"] = scraped(root, port)
    return {**asked, "before": before, "port": text, "root": root,
            "file": (root / "night.prom").read_text()}  # fmt: skip


def get(url: str) -> str:
    with urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def scraped(root, port: int) -> dict[str, list]:
    """What a real Prometheus answers to the dashboard's queries once it has asked the run."""
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    config["global"]["scrape_interval"] = "200ms"
    config["rule_files"] = [str(FOLDER / "alerts.yaml")]
    config["scrape_configs"] = [
        one for one in config["scrape_configs"] if one["job_name"] != "node"
    ]
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{port}"]
    (root / "prometheus.yml").write_text(yaml.safe_dump(config))
    own = free_port()
    command = ["prometheus", f"--config.file={root / 'prometheus.yml'}",
               f"--storage.tsdb.path={root / 'data'}",
               f"--web.listen-address=127.0.0.1:{own}"]  # fmt: skip
    with (root / "prometheus.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not (found := query(own, "unet_pipeline_windows_total")):
            assert time.monotonic() < deadline, (root / "prometheus.log").read_text()
            time.sleep(0.1)
        return {"windows": found} | {one: query(own, one) for one in expressions()}
    finally:
        server.terminate()
        server.wait(30)


def query(port: int, expression: str) -> list | None:
    try:
        answer = json.loads(get(f"http://127.0.0.1:{port}/api/v1/query?query={quote(expression)}"))
    except OSError:  # it is starting
        return None
    assert answer["status"] == "success"
    return answer["data"]["result"]


def of_dashboard() -> list[str]:
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel["targets"]]
    return [one.replace("$name", ".*") for one in found]


def of_alerts() -> list[str]:
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def expressions() -> list[str]:
    return [*of_dashboard(), *of_alerts()]


def test_a_run_shows_what_became_of_its_cases(run):
    begun, end = samples(run["begun"]), samples(run["port"])
    assert begun["unet_pipeline_run_in_progress",] == 1
    assert begun["unet_pipeline_cases_expected", "phantom"] == 3
    assert begun["unet_pipeline_cases_total", "", "phantom", "done"] == 0
    between = samples(run["phantom-01"])  # the torn one is told first
    assert between["unet_pipeline_cases_total", "", "phantom", "done"] == 1
    last = between["unet_pipeline_last_case_finished_timestamp_seconds",]
    assert between["unet_pipeline_run_expected_end_timestamp_seconds",] > last
    assert end["unet_pipeline_run_in_progress",] == 0
    assert end["unet_pipeline_cases_total", "", "phantom", "done"] == 2
    assert end["unet_pipeline_cases_total", "file_truncated", "phantom", "quarantined"] == 1
    assert end["unet_pipeline_quarantine_share", "phantom"] == pytest.approx(1 / 3)
    assert end["unet_pipeline_run_end", "", "completed"] == 1
    (summary,) = (run["root"] / "out" / "runs").glob("*/run.json")
    cost = json.loads(summary.read_text())["cost"]
    assert end["unet_pipeline_windows_total", "phantom"] == cost["windows"] > 0
    assert end["unet_pipeline_device_seconds_total", "phantom"] == pytest.approx(
        cost["device_seconds"]
    )
    began, last, over = (
        end[f"unet_pipeline_{one}_timestamp_seconds",]
        for one in ("run_started", "last_case_finished", "run_ended")
    )
    assert began < last < over <= time.time()


def test_the_file_stays_with_the_last_values_and_names_no_case(run):
    assert samples(run["before"])["unet_pipeline_run_in_progress",] == 1
    assert samples(run["file"]) == samples(run["port"])
    assert 'name="night"' in run["file"]
    assert (run["root"] / "night.prom").stat().st_mode & 0o777 == 0o644
    assert not re.search(r"torn|phantom-0|images", run["file"])


def test_runs_beside_each_other_have_files_of_their_own_and_a_taken_port_fails_none(run, caplog):
    root, names = run["root"], ("night.prom", "night-2.prom")
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        watching(places_of("", str(root / names[0]))),
    ):
        port = taken.getsockname()[1]
        done = cli("segment", root / "images", "--model", "phantom", "--output", root / "out",
                   "--cluster", "serial", "--threads", "1", "--metrics-port", port,
                   "--metrics-file", root / names[0])  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert f"metrics are not served at 127.0.0.1:{port}" in caplog.text
    second = samples((root / names[1]).read_text())
    assert second["unet_pipeline_cases_total", "", "phantom", "skipped"] == 2
    assert second["unet_pipeline_windows_total", "phantom"] == 0  # they are of the run before


def test_who_is_refused_is_seen(tmp_path):
    done = cli("segment", tmp_path, "--model", "phantom", "--output", tmp_path / "out",
               "--cluster", "serial", "--metrics-file", tmp_path / "m")  # fmt: skip
    assert done.returncode == 2
    found = samples((tmp_path / "m" / "segment.prom").read_text())
    (end,) = [key for key in found if key[0] == "unet_pipeline_run_end"]
    assert end[2] == "refused"
    assert f"[{end[1]}]" in done.stderr


def test_a_port_that_is_none_is_refused_in_a_sentence(tmp_path):
    done = cli("segment", tmp_path, "--model", "phantom", "--output", tmp_path / "out",
               "--metrics-port", "high")  # fmt: skip
    assert done.returncode == 2
    assert "[setting_invalid] --metrics-port" in done.stderr


def test_all_that_is_asked_for_a_real_run_shows(run):
    shown = {key[0] for one in ("begun", "phantom-01", "file") for key in samples(run[one])}
    for expression in expressions():
        asked = set(METRIC.findall(expression))
        assert asked, expression
        assert asked <= shown, expression


@needs("promtool")
def test_rules_and_settings_are_sound_and_fire_when_they_should():
    for words in (["check", "rules", "alerts.yaml"], ["check", "config", "prometheus.yml"],
                  ["test", "rules", "alerts_test.yaml"]):  # fmt: skip
        done = subprocess.run(
            ["promtool", *words], cwd=FOLDER, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    tested = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]
    fired = {one["alertname"] for test in tested for one in test["alert_rule_test"]
             if one.get("exp_alerts")}  # fmt: skip
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
    assert fired == {rule["alert"] for rule in rules}


@needs("promtool")
def test_promtool_has_nothing_to_say_of_the_metrics(run):
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=run["file"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs("prometheus")
def test_a_real_prometheus_answers_what_the_dashboard_asks(run):
    found = run["prometheus"]
    ((windows,), end) = found["windows"], samples(run["port"])
    assert float(windows["value"][1]) == end["unet_pipeline_windows_total", "phantom"]
    (status,) = [one for one in of_dashboard() if one.startswith("sum by (name, model, status)")]
    counts = {one["metric"]["status"]: float(one["value"][1]) for one in found[status]}
    assert counts == {"done": 2, "skipped": 0, "quarantined": 1}
    (binding,) = [one for one in of_dashboard() if "binding" in one]
    assert [one["metric"]["resource"] for one in found[binding]] == ["compute"]
