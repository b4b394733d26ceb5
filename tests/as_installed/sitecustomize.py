"""Read by each Python that the tests start: what only they have is not there, as for users.

nnU-Net and ome-zarr, which results are held against, bring these packages along. MONAI imports
them where it finds them, for two seconds of processor time in each process.
"""

import sys

OF_TESTS = ("matplotlib", "pandas", "skimage", "sklearn")

if __name__ == "sitecustomize":  # and not where a test imports it
    sys.modules.update(dict.fromkeys(OF_TESTS))  # type: ignore[arg-type]  # an import fails
