"""Read by each Python that the tests start: what only they have is not there, as for users.

nnU-Net and ome-zarr, which results are held against, bring these packages along. MONAI imports
them where it finds them, for two seconds of processor time in each process.
"""

import sys
from importlib.machinery import PathFinder
from typing import Any

OF_TESTS = ("matplotlib", "pandas", "skimage", "sklearn")


class WithoutThem(PathFinder):
    """Finds what is installed but for these: to all who ask, PyTorch's compiler and Cython too."""

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> Any:
        hidden = fullname.partition(".")[0] in OF_TESTS
        return None if hidden else super().find_spec(fullname, path, target)


if __name__ == "sitecustomize":  # and not where a test imports it
    sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutThem
