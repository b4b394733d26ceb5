"""What calls return: records of every case, and a table of them where a notebook shows results."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy.typing as npt
from rich.console import RenderableType

from unet_pipeline import console
from unet_pipeline.api.tables import checks_table, html_of, plans_table, statistics_table
from unet_pipeline.archive import TABLE, others_in
from unet_pipeline.errors import CaseError
from unet_pipeline.evaluation.groups import Group
from unet_pipeline.evaluation.review import Review, review
from unet_pipeline.jobs.plan import CasePlan, Estimate
from unet_pipeline.jobs.statistics import StatisticsSummary
from unet_pipeline.records import CaseRecord, CheckRecord, CheckSummary, RunSummary
from unet_pipeline.storage.store import Store, join
from unet_pipeline.storage.urls import parent
from unet_pipeline.volume.axes import OF_LABELS
from unet_pipeline.volume.decoding import read_labels
from unet_pipeline.volume.grid import VoxelGrid
from unet_pipeline.volume.probe import probe_header


class HasCase(Protocol):
    """What has the name of its case."""

    @property
    def case(self) -> str:
        """Name of the case."""


Record = TypeVar("Record", bound=HasCase)


@dataclass(frozen=True)
class Records(Generic[Record]):
    """Records of cases, by number or by name: ``result[0]``, ``result["sub-01"]``.

    Attributes
    ----------
    records
        One for each case, in the order of their names.
    """

    records: tuple[Record, ...]

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        """Go through the records."""
        return iter(self.records)

    def __getitem__(self, case: int | str) -> Record:
        """Return the record of a case."""
        if isinstance(case, int):
            return self.records[case]
        for record in self.records:
            if record.case == case:
                return record
        raise KeyError(case)

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        return html_of(self._table())

    def _table(self) -> RenderableType:
        raise NotImplementedError


@dataclass(frozen=True)
class LabelMap:
    """A label map in memory, on the grid of its image.

    Attributes
    ----------
    labels_XYZ
        Label of each voxel.
    grid
        Where the voxels lie: ``grid.affine`` (4x4, voxel to RAS+ mm), ``grid.spacing_mm``,
        ``grid.axcodes``.
    names
        Names of the labels.
    """

    labels_XYZ: npt.NDArray[Any]
    grid: VoxelGrid
    names: Mapping[int, str]


@dataclass(frozen=True)
class Segmented(Records[CaseRecord]):
    """What ``segment`` did.

    Attributes
    ----------
    summary
        Counts, mean Dice, cost, and where report and table lie.
    names
        Names of the labels.
    also
        What further models did, by their names.
    groups
        Sex and age of patients, by case, where a manifest says them.
    """

    summary: RunSummary
    names: Mapping[int, str]
    store: Store = field(repr=False)
    also: Mapping[str, "Segmented"] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict, repr=False)

    def to_review(self) -> list[Review]:
        """Return the label maps that are unlike the others, worst first, with the reasons.

        What is usual is learned from earlier cases of the output, too, as in the report.
        """
        names = {str(label): name for label, name in self.names.items()}
        table = join(parent(self.summary.report), TABLE)
        own = (one.case for one in self.records if one.status != "quarantined")
        earlier = others_in(self.store, table, own)
        return review(self.records, names, others=earlier, groups=self.groups)

    def labels(self, case: int | str) -> LabelMap:
        """Read the label map of a case.

        Raises
        ------
        CaseError
            The reason why there is none, or of the store.
        """
        record = self[case]
        if record.output is None:
            raise CaseError(
                record.code, subject=record.case, found="a case without a label map",
                wanted="one that is done", remedy=record.message,
            )  # fmt: skip
        grid = probe_header(self.store, record.output, axes=OF_LABELS).header.grid
        labels_XYZ, _ = read_labels(self.store, record.output, budget_bytes=2**62)
        return LabelMap(labels_XYZ, grid, self.names)

    def _table(self) -> RenderableType:
        return console.cases_table(self.records)


@dataclass(frozen=True)
class Checked(Records[CheckRecord]):
    """What ``check`` saw.

    Attributes
    ----------
    summary
        Counts of verdicts and codes, and where report and manifest lie.
    """

    summary: CheckSummary

    def _table(self) -> RenderableType:
        return checks_table(self.records)


@dataclass(frozen=True)
class Measured(Records[CaseRecord]):
    """What ``statistics`` measured.

    Attributes
    ----------
    summary
        Each label over all label maps, names of labels, and where report and table lie.
    """

    summary: StatisticsSummary

    def to_review(self) -> list[Review]:
        """Return the label maps that are unlike the others, worst first, with the reasons."""
        return review(self.records, self.summary.labels)

    def _table(self) -> RenderableType:
        return statistics_table(self.records, self.summary.labels)


@dataclass(frozen=True)
class Planned(Records[CasePlan]):
    """What a run would take.

    Attributes
    ----------
    faults
        Cases that would be refused.
    estimate
        All cases together.
    """

    faults: tuple[CaseRecord, ...]
    estimate: Estimate

    def _table(self) -> RenderableType:
        return plans_table(self.records)
