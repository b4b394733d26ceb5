"""Names that a user may choose by: one list each, for forms, command line and code.

A registry that knows what is behind such a name is keyed by it, and a test holds them together.
"""

from typing import Literal

EngineName = Literal["eager", "openvino", "tensorrt", "compiled"]  # as ``auto`` tries them
EngineWish = Literal["auto", EngineName]
NetworkName = Literal["unet", "plain", "unetpp", "unetplus", "unete", "asymmetric", "half_decoder"]
ClusterName = Literal["serial", "local", "cuda", "slurm", "kubernetes"]
PostprocessName = Literal["largest", "remove-small", "fill-holes", "keep", "merge"]
Blend = Literal["gaussian", "constant"]
Upsample = Literal["deconv", "linear"]
LossName = Literal["dice_ce", "weighted", "focal", "tversky"]
OptimiserName = Literal["adamw", "sgd"]
Schedule = Literal["cosine", "poly", "constant"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
AugmentationName = Literal["none", "light", "usual"]
Plane = Literal["axial", "coronal", "sagittal"]
OutputFormat = Literal["nifti", "ome-zarr"]
OutputLayout = Literal["auto", "simple", "bids"]
OtherRuns = Literal["share", "wait", "refuse"]
Confidence = Literal["none", "numbers", "map"]
