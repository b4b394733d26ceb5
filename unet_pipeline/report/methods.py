"""A paragraph of methods for a paper, from what a run did, with its references.

The sentences are as plain as a reader of the paper needs them, and say nothing that the run did not
do. They may be used as they are (CC0 1.0).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

REFERENCES: Mapping[str, str] = MappingProxyType({
    "attention": "Oktay O, et al. Attention U-Net: Learning where to look for the pancreas. 2018. "
    "arXiv:1804.03999.",
    "cc3d": "Silversmith W. cc3d: Connected components on multilabel 3D & 2D images. 2021. "
    "doi:10.5281/zenodo.5719536.",
    "dask": "Rocklin M. Dask: Parallel computation with blocked algorithms and task scheduling. "
    "Proceedings of the 14th Python in Science Conference, 2015. doi:10.25080/Majora-7b98e3ed-013.",
    "dice": "Dice LR. Measures of the amount of ecologic association between species. Ecology "
    "26:297-302, 1945. doi:10.2307/1932409.",
    "monai": "Cardoso MJ, et al. MONAI: An open-source framework for deep learning in healthcare. "
    "2022. arXiv:2211.02701.",
    "nibabel": "Brett M, et al. nipy/nibabel. doi:10.5281/zenodo.591597.",
    "nnunet": "Isensee F, et al. nnU-Net: a self-configuring method for deep learning-based "
    "biomedical image segmentation. Nature Methods 18:203-211, 2021. "
    "doi:10.1038/s41592-020-01008-z.",
    "ome": "Moore J, et al. OME-NGFF: a next-generation file format for expanding bioimaging data-"
    "access strategies. Nature Methods 18:1496-1498, 2021. doi:10.1038/s41592-021-01326-w.",
    "outliers": "Iglewicz B, Hoaglin DC. How to detect and handle outliers. ASQC Quality Press, "
    "1993.",
    "prefect": "Prefect. https://www.prefect.io.",
    "segresnet": "Myronenko A. 3D MRI brain tumor segmentation using autoencoder regularization. "
    "BrainLes 2018. doi:10.1007/978-3-030-11726-9_28.",
    "swin": "Hatamizadeh A, et al. Swin UNETR: Swin transformers for semantic segmentation of "
    "brain tumors in MRI images. BrainLes 2021. doi:10.1007/978-3-031-08999-2_22.",
    "torch": "Paszke A, et al. PyTorch: An imperative style, high-performance deep learning "
    "library. NeurIPS 32, 2019. arXiv:1912.01703.",
    "unet": "Ronneberger O, Fischer P, Brox T. U-Net: Convolutional networks for biomedical image "
    "segmentation. MICCAI 2015. doi:10.1007/978-3-319-24574-4_28.",
    "unetpp": "Zhou Z, et al. UNet++: Redesigning skip connections to exploit multiscale features "
    "in image segmentation. IEEE Transactions on Medical Imaging 39:1856-1867, 2020. "
    "doi:10.1109/TMI.2019.2959609.",
    "vnet": "Milletari F, Navab N, Ahmadi S-A. V-Net: Fully convolutional neural networks for "
    "volumetric medical image segmentation. 3DV 2016. doi:10.1109/3DV.2016.79.",
})  # fmt: skip
_NETWORKS = {  # last part of a network's name: what it is called, and its reference
    "NestedUNet": ("UNet++", "unetpp"),
    "BasicUNetPlusPlus": ("UNet++", "unetpp"),
    "AttentionUnet": ("attention U-Net", "attention"),
    "SegResNet": ("SegResNet", "segresnet"),
    "SwinUNETR": ("Swin UNETR", "swin"),
    "VNet": ("V-Net", "vnet"),
    **dict.fromkeys(("UNet", "BasicUNet", "DynUNet", "AsymmetricUNet"), ("U-Net", "unet")),
    **dict.fromkeys(("PlainConvUNet", "ResidualEncoderUNet"), ("U-Net of nnU-Net", "nnunet")),
}
_BLENDS = {"gaussian": "Gaussian", "gaussian_nnunet": "Gaussian", "constant": "equal"}
_PLAIN = frozenset({"LoadImaged", "EnsureChannelFirstd", "EnsureTyped"})  # change no value
_AXES = "xyz"
_Cite = Callable[..., str]  # names of references -> their numbers in brackets


@dataclass(frozen=True)
class MethodsFacts:
    """What a run did.

    Attributes
    ----------
    versions
        Of libraries, by name; ours is ``unet_pipeline``.
    network
        Name of the network's class.
    networks
        Trained networks whose scores are averaged.
    other_networks
        Names of further classes among them.
    references
        What the model asks to be cited.
    transforms
        Names of the steps of its preprocessing.
    roi_size
        Voxels of a window; empty where the whole volume is one.
    depth
        Of a nested network, as asked for; empty for all of it.
    steps
        What was done to the labels after they were decided, in words.
    counts, codes
        Cases by status; quarantined ones by reason.
    first_stage
        The model whose label map the network is given, too, in a cascade; empty for none.
    scheduler
        What started the run, with its version; empty for nobody.
    labels
        Names of the labels, background left out.
    """

    versions: Mapping[str, str]
    model: str
    weights: str
    network: str
    roi_size: Sequence[int]
    overlap: float
    blend: str
    engine: str
    transforms: Sequence[str]
    counts: Mapping[str, int]
    labels: Sequence[str]
    networks: int = 1
    other_networks: Sequence[str] = ()
    mirror: Sequence[int] = ()
    depth: str = ""
    first_stage: str = ""
    steps: Sequence[str] = ()
    codes: Mapping[str, int] = field(default_factory=dict)
    references: Sequence[str] = ()
    uses_dask: bool = False
    scheduler: str = ""
    is_ome: bool = False
    has_dice: bool = False
    is_reviewed: bool = False


@dataclass(frozen=True)
class Methods:
    """A paragraph with numbers in brackets, and the references that these stand for."""

    paragraph: str
    references: tuple[str, ...]

    @property
    def text(self) -> str:
        """Both, to be copied."""
        listed = [f"[{number}] {one}" for number, one in enumerate(self.references, start=1)]
        return "\n".join([self.paragraph, "", *listed]) + "\n"


def methods_of(facts: MethodsFacts) -> Methods:
    """Return the paragraph of a run."""
    cited: list[str] = []

    def cite(*names: str) -> str:
        for name in names:
            text = REFERENCES.get(name, name)
            if text not in cited:
                cited.append(text)
        numbers = (cited.index(REFERENCES.get(name, name)) + 1 for name in names)
        return "".join(f" [{number}]" for number in numbers)

    sentences = [
        *_model(facts, cite),
        *_inputs(facts, cite),
        *_inference(facts, cite),
        *_after(facts, cite),
    ]
    return Methods(" ".join(sentences), tuple(cited))


def _model(facts: MethodsFacts, cite: _Cite) -> list[str]:
    model = f"{facts.model}{cite(*facts.references)}"
    kinds = []
    for one in (facts.network, *facts.other_networks):
        name, reference = _NETWORKS.get(one, (one, ""))
        kinds.append(f"{name}{cite(reference) if reference else ''}")
    network = " or a ".join(kinds)
    if facts.networks > 1:
        network = f"{facts.networks} networks whose scores were averaged, each a {network}"
    else:
        network = f"a {network}"
    if facts.depth:
        network += f", at depth {facts.depth}"
    if facts.first_stage:
        network += f", which is also given the label map of a first stage, {facts.first_stage}"
    version = facts.versions.get("unet_pipeline", "")
    return [
        f"Volumes were segmented with unet_pipeline {version} by the model {model} "
        f"(weights {facts.weights}), {network}.",
        f"Labels: {', '.join(facts.labels)}.",
    ]


def _inputs(facts: MethodsFacts, cite: _Cite) -> list[str]:
    done = facts.counts.get("done", 0) + facts.counts.get("skipped", 0)
    left_out = facts.counts.get("quarantined", 0)
    said = f"{done:,} {'volume' if done == 1 else 'volumes'} were segmented"
    if done == 1:
        said = "1 volume was segmented"
    if left_out:
        codes = ", ".join(f"{code} {count}" for code, count in facts.codes.items())
        said += f"; {left_out:,} failed the checks of files and geometry, or while they were "
        said += f"processed, and were left out ({codes})"
    formats = f"nibabel {facts.versions.get('nibabel', '')}{cite('nibabel')}"
    formats += f" and as OME-Zarr{cite('ome')}" if facts.is_ome else ""
    transforms = ", ".join(one for one in facts.transforms if one not in _PLAIN)
    return [
        f"{said}.",
        f"Headers were read with {formats}; preprocessing followed the model's configuration "
        f"({transforms}), as MONAI {facts.versions.get('monai', '')}{cite('monai')} "
        f"{'and nnU-Net' + cite('nnunet') + ' do' if _is_nnunet(facts) else 'does'}."
        if transforms
        else f"Headers were read with {formats}.",
    ]


def _is_nnunet(facts: MethodsFacts) -> bool:
    return _NETWORKS.get(facts.network, ("", ""))[1] == "nnunet"


def _inference(facts: MethodsFacts, cite: _Cite) -> list[str]:
    torch = f"PyTorch {facts.versions.get('torch', '')}{cite('torch')}"
    engine = "" if facts.engine == "eager" else f", engine {facts.engine}"
    if facts.roi_size:
        size = " x ".join(map(str, facts.roi_size))
        where = (
            f"in windows of {size} voxels that overlap by {facts.overlap:.0%}, whose scores were "
            f"averaged with {_BLENDS.get(facts.blend, facts.blend)} weights"
        )
    else:
        where = "on each whole volume"
    mirrored = ""
    if facts.mirror:
        mirrored = f", and over mirrored copies (axes {', '.join(_AXES[a] for a in facts.mirror)})"
    return [
        f"The network was evaluated with {torch}{engine} {where}{mirrored}; scores were brought "
        "back to the grid of each file, where the labels were decided."
    ]


def _after(facts: MethodsFacts, cite: _Cite) -> list[str]:
    said = []
    if facts.steps:
        said.append(f"Label maps were postprocessed{cite('cc3d')}: {', '.join(facts.steps)}.")
    if facts.has_dice:
        dice = cite("dice")
        said.append(f"Label maps were compared with reference masks by the Dice score{dice}.")
    if facts.is_reviewed:
        said.append(
            "Label maps whose volume, shape or place was more than 3.5 robust standard deviations "
            f"from the median of all{cite('outliers')} were listed for review."
        )
    if facts.uses_dask:
        with_dask = f"Work was distributed with Dask {facts.versions.get('dask', '')}{cite('dask')}"
        by = f" and scheduled by {facts.scheduler}{cite('prefect')}" if facts.scheduler else ""
        said.append(f"{with_dask}{by}.")
    elif facts.scheduler:
        said.append(f"Runs were scheduled by {facts.scheduler}{cite('prefect')}.")
    return said
