"""Voxel grids, the geometry gate, NIfTI, and the way from the file's voxels to the network's."""
