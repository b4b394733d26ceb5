"""The files at the root of a BIDS dataset of label maps, and what its sidecars say. Pure.

Source: BIDS 1.11, "Dataset description", "Common image-derived labels", "BIDS URI".
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from unet_pipeline.records import json_bytes
from unet_pipeline.storage.bids_names import UNDEFINED, label_of
from unet_pipeline.storage.urls import LOCAL, canonical, is_below, protocol_of, relative_to
from unet_pipeline.texts import shown

DESCRIPTION = "dataset_description.json"
IGNORE = ".bidsignore"
VERSION = "1.11.0"
MOST_BYTES = 4 * 2**20  # of a description that is read
_SOURCE = "raw"  # what URIs call the dataset of the images
_OURS = "unet-pipeline"
_DOI = re.compile(r"(doi:|https?://doi\.org/)?10\.[0-9]{4,9}/[!-~]{1,200}")


def read_description(data: bytes) -> dict[str, Any] | None:
    """Return what describes a dataset of BIDS; None if it is nothing of the kind."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return None
    is_bids = isinstance(said, dict) and isinstance(said.get("BIDSVersion"), str)
    return said if is_bids else None


def is_derivative(said: Mapping[str, Any]) -> bool:
    """Say whether a dataset is one that was derived from another."""
    return said.get("DatasetType") == "derivative"


def description(
    *,
    model: str,
    weights: str,
    version: str,
    source: str,
    output: str,
    source_said: Mapping[str, Any],
    before: Mapping[str, Any],
) -> bytes:
    """Return ``dataset_description.json``.

    Parameters
    ----------
    model, weights
        Name of the bundle, and digest of its weights.
    version
        Of this package.
    source, output
        URLs of the roots of both datasets.
    source_said
        The description of the images' dataset.
    before
        What the description said until now: other models are kept.
    """
    old = before.get("GeneratedBy")
    kept = [
        one
        for one in (old if isinstance(old, list) else [])
        if isinstance(one, dict) and one.get("Name") not in {None, _OURS, model}
    ]
    doi = source_said.get("DatasetDOI")
    where = {"URL": _uri(source)}
    if isinstance(doi, str) and _DOI.fullmatch(doi):
        where["DOI"] = doi
    return json_bytes(
        {
            "Name": "Label maps by unet-pipeline",
            "BIDSVersion": VERSION,
            "DatasetType": "derivative",
            "GeneratedBy": [
                {"Name": _OURS, "Version": version, "Description": "Runs models over volumes"},
                *kept,
                {"Name": model, "Version": weights, "Description": "Model bundle, by its weights"},
            ],
            "SourceDatasets": [where],
            "DatasetLinks": {_SOURCE: _link(source, output)},
        }
    )


def sidecar_keys(paths: Sequence[str], name: str, model: str) -> dict[str, Any]:
    """Return what BIDS asks of a label map's sidecar.

    Parameters
    ----------
    paths
        Of the channels, below the root of their dataset.
    name
        Of the label map.
    """
    sources = [f"bids:{_SOURCE}:{path}" for path in paths]
    known = {
        "Description": f"Label map by the model {shown(model, 200)}, on the grid of its image",
        "Sources": sources,
        "SpatialReference": sources[0],
        "Manual": False,
    }
    return known | ({"Resolution": "That of the image"} if "_res-" in name else {})


def table_name(model: str) -> str:
    """Return the name of a model's table of labels, at the root: it holds for all below."""
    return f"seg-{label_of(model)}_dseg.tsv"


def label_table(labels: Mapping[int, str], colours: Mapping[int, str]) -> bytes:
    """Return the number, name and colour of each label as a table, in UTF-8.

    Parameters
    ----------
    colours
        ``#rrggbb`` by label; none for background.
    """
    rows = [("index", "name", "color")]
    for number, name in sorted(labels.items()):
        rows.append((str(number), shown(name).strip() or "n/a", colours.get(number, "n/a")))
    return "".join("\t".join(row) + "\n" for row in rows).encode()


def ignore_list() -> bytes:
    """Return ``.bidsignore``: what BIDS has no name for, or no label maps of."""
    folders = (f"**/{folder}/**" for folder in UNDEFINED)
    return "".join(
        f"{line}\n" for line in ("/runs", "*_dseg.png", "*_dseg_confidence.nii.gz", *folders)
    ).encode()


def readme(model: str) -> bytes:
    """Return the page that says what the dataset is."""
    return f"""# Label maps

Made by unet-pipeline with the model {shown(model, 200)} (and others, if `GeneratedBy` of
`{DESCRIPTION}` names them), from the images that `SourceDatasets` names.

- `sub-*/**/*_dseg.nii.gz`: a number for each voxel, on the grid of the image. `seg` is the model,
  `desc` says of which image. The tables `seg-*_dseg.tsv` say what the numbers mean.
- `*_dseg.json`: what BIDS asks for, and the record of how the label map was made.
- `runs/`: reports, numbers about each label, costs. BIDS has no name for these.
""".encode()


def _uri(url: str) -> str:
    whole = canonical(url)
    return f"file://{quote(whole)}" if protocol_of(url) == LOCAL else quote(whole, safe=":/")


def _link(source: str, output: str) -> str:
    """Return where the images' dataset lies: a relative path if the output lies within."""
    if not is_below(output, source):
        return _uri(source)
    return "/".join([".."] * len(relative_to(output, source).split("/")))
