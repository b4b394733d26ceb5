"""The gate: it says which cases are sound before a GPU second is spent on them.

``header`` and ``alignment`` judge grids, ``voxels`` and ``content`` judge arrays; all four are
pure. ``examine`` reads a case's files and asks them; ``fixes`` says what can be put right.
"""
