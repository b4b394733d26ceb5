"""The progress of a run as metrics of Prometheus: their names, their labels, what they say."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from unet_pipeline import __version__
from unet_pipeline.cost import RESOURCES
from unet_pipeline.texts import shown
from unet_pipeline.watching.progress import STATUSES, ModelProgress, Progress

_PREFIX = "unet_pipeline_"


class Metrics(Collector):
    """Makes metrics of a run's progress whenever somebody asks.

    Parameters
    ----------
    name
        Label of all of them: which runs of this machine these are, such as ``nightly``.
    progress
        Returns how far the run is.
    """

    def __init__(self, name: str, progress: Callable[[], Progress]) -> None:
        self.name, self.progress = name, progress

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, of one moment."""
        now = self.progress()
        yield from self._of_run(now)
        yield from self._of_end(now)
        yield from self._of_cases(now)
        yield from self._of_work(now)

    def _of_run(self, now: Progress) -> Iterator[Metric]:
        info = self._gauge(
            "run_info", "Run, model and version of the package.", "run_id", "model", "version"
        )
        for one in now.models.values():
            info.add_metric([self.name, now.run_id, shown(one.label), __version__], 1)
        yield info
        yield self._single(
            "run_started_timestamp_seconds", "When the run began to check its request.", now.started
        )
        is_on = float(now.ended is None)
        yield self._single("run_in_progress", "1 while the run is on, then 0.", is_on)
        yield self._single("workers", "Worker processes that the run began with.", now.workers)

    def _of_end(self, now: Progress) -> Iterator[Metric]:
        yield self._single(
            "run_ended_timestamp_seconds", "When the run ended; not there before.", now.ended
        )
        end = self._gauge(
            "run_end", "How the run ended, and its reason code; not there before.", "how", "code"
        )
        if now.how is not None:
            end.add_metric([self.name, now.how, now.code], 1)
        yield end
        yield self._single(
            "run_expected_end_timestamp_seconds",
            "When the last case is done, if all take as long as those so far.",
            now.expected_end,
        )

    def _of_cases(self, now: Progress) -> Iterator[Metric]:
        expected = self._gauge("cases_expected", "Cases that the run was asked for.", "model")
        cases = self._counter(
            "cases_total", "Cases by what became of them.", "model", "status", "code"
        )
        share = self._gauge("quarantine_share", "Quarantined of the cases so far, 0 to 1.", "model")
        for one in now.models.values():
            model = [self.name, shown(one.label)]
            expected.add_metric(model, one.expected)
            share.add_metric(model, one.quarantine_share)
            for (status, code), count in _with_zeros(one).items():
                cases.add_metric([*model, status, code], count)
        yield from (expected, cases, share)
        yield self._single(
            "last_case_finished_timestamp_seconds",
            "When the last case so far was finished; not there before the first.",
            now.latest,
        )

    def _of_work(self, now: Progress) -> Iterator[Metric]:
        windows = self._counter("windows_total", "Windows, counted as their case is done.", "model")
        device = self._counter("device_seconds_total", "Seconds in the network.", "model")
        seconds = self._counter(
            "case_seconds_total", "Seconds that cases took, by resource.", "model", "resource"
        )
        for one in now.models.values():
            model = [self.name, shown(one.label)]
            windows.add_metric(model, one.windows)
            device.add_metric(model, one.device_seconds)
            for resource in (*RESOURCES, "wait"):
                seconds.add_metric([*model, resource], one.seconds.get(resource, 0.0))
        yield from (windows, device, seconds)
        binding = self._gauge(
            "binding_resource", "1 for what cases took most time for so far, else 0.", "resource"
        )
        for resource in RESOURCES:
            binding.add_metric([self.name, resource], float(resource == now.binding_resource))
        yield binding

    def _single(self, name: str, said: str, value: float | None) -> Metric:
        family = self._gauge(name, said)
        if value is not None:
            family.add_metric([self.name], value)
        return family

    def _gauge(self, name: str, said: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"{_PREFIX}{name}", said, labels=["name", *labels])

    def _counter(self, name: str, said: str, *labels: str) -> CounterMetricFamily:
        return CounterMetricFamily(f"{_PREFIX}{name}", said, labels=["name", *labels])


def _with_zeros(model: ModelProgress) -> Mapping[tuple[str, str], int]:
    """Return counts in which each status is there; a counter that begins at 1 shows no increase."""
    return dict.fromkeys([(status, "") for status in STATUSES], 0) | dict(model.cases)
