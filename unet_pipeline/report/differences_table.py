"""What changed between two sets of label maps as CSV: one line for each label of each case."""

import csv
import io
from collections.abc import Mapping, Sequence

from unet_pipeline.evaluation.differences import CaseDifference
from unet_pipeline.report.table import cell_text, digits, name_of


def differences_csv(cases: Sequence[CaseDifference], names: Mapping[str, str]) -> str:
    """Return ``case, label, name, old_ml, new_ml, change_percent, dice``; RFC 4180."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(["case", "label", "name", "old_ml", "new_ml", "change_percent", "dice"])
    for one in cases:
        for label, found in one.labels.items():
            if found.dice is None:
                continue
            name = cell_text(name_of(label, names))
            volumes = [f"{ml:.10g}" for ml in (found.old_ml, found.new_ml)]
            rest = [digits(found.percent, 3), digits(found.dice, 4)]
            writer.writerow([cell_text(one.case), cell_text(label), name, *volumes, *rest])
    return out.getvalue()
