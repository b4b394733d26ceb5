"""How sure a decision is: the margin of a voxel, a byte from 0 (undecided) to 255 (sure).

The *lead* of a voxel is how far the score that won is above the next one; of regions, each of which
is decided alone, how far the nearest score is from its cut. Scores are the network's own, merged
and brought to the native grid, as the label is decided from them. The margin is tanh(lead / 2):
with p the softmax of the scores, (p1 - p2) / (p1 + p2) of the first two classes, and for a region
|2p - 1| of its sigmoid. It asks for no other class than the first two, and is looked up in a table,
so it is the same on every machine.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

STEPS = np.float32(128)  # of the table, for a lead of 1
MOST = 255  # the margin of a voxel that is sure
TABLE = np.rint(MOST * np.tanh((np.arange(1024) + 0.5) / 256)).astype(np.uint8)
SURE_LEAD = np.float32(7)  # from here on the margin is 255, whatever the lead, roundings included

Leads = npt.NDArray[np.float32]
Margins = npt.NDArray[np.uint8]


def margins_of(lead_XYZ: npt.NDArray[Any]) -> Margins:
    """Return the margins of leads, 0 or more; infinity is one."""
    steps = np.minimum(np.asarray(lead_XYZ, np.float32) * STEPS, np.float32(TABLE.size - 1))
    margins: Margins = TABLE[steps.astype(np.int64)]
    return margins
