"""Read by each Python that the tests start: what only they have is not there, as for users.

nnU-Net and ome-zarr, which results are held against, bring these packages along. MONAI imports
them where it finds them, for two seconds of processor time in each process.
"""

import sys
from typing import Any

OF_TESTS = ("matplotlib", "pandas", "skimage", "sklearn")


class NotThere:
    """A finder that is asked first. None in ``sys.modules`` would do for Python, not for Cython."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in OF_TESTS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


if __name__ == "sitecustomize":  # and not where a test imports it
    sys.meta_path.insert(0, NotThere)  # type: ignore[arg-type]
