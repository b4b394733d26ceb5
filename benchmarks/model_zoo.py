"""Which segmentation bundles of MONAI's model zoo run, as they stand or with --trust; a line each.

    python benchmarks/model_zoo.py ZOO

ZOO is a clone of https://github.com/Project-MONAI/model-zoo; its weights are not needed: each
network gets random ones. A bundle runs if all that is checked before a cohort starts holds; where
its own code builds the network, one window goes through it, too. With --trust code of ZOO is run.
Prints a table in Markdown.
"""

import argparse
import json
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from textwrap import shorten

import torch

from unet_pipeline.errors import RequestError
from unet_pipeline.networks.loading import load_bundle
from unet_pipeline.networks.registry import build_network
from unet_pipeline.networks.trusted import build_trusted
from unet_pipeline.opening import open_bundle
from unet_pipeline.storage.store import Store


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("zoo", type=Path)
    metadata = (parser.parse_args().zoo / "models").glob("*/configs/metadata.json")
    models = sorted(path.parent.parent for path in metadata)
    warnings.simplefilter("ignore")  # what bundles do with deprecated options is not asked here
    sys.stdout.write("| bundle | verdict |\n| --- | --- |\n")
    for model in filter(_segments, models):
        sys.stdout.write(f"| {model.name} | {verdict(model)} |\n")
        sys.stdout.flush()


def verdict(model: Path) -> str:
    """Say how a bundle runs, or why it does not."""
    for trust in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            try:
                _prepare(shutil.copytree(model, Path(folder, model.name)), trust=trust)
            except RequestError as error:
                reason = shorten(f"refused ({error.code}): {error.found}", 120)
            else:
                return "runs with --trust" if trust else "runs as it stands"
    return reason


def _segments(model: Path) -> bool:
    metadata = json.loads((model / "configs/metadata.json").read_text(encoding="utf-8"))
    return "segment" in f"{model.name} {metadata.get('task', '')}".lower()


def _prepare(folder: Path, *, trust: bool) -> None:
    """Give a bundle random weights, and check what is checked before a cohort starts."""
    store, weights = Store(), folder / "models/model.pt"
    shutil.rmtree(weights.parent, ignore_errors=True)
    weights.parent.mkdir()
    weights.touch()
    bundle = load_bundle(str(folder), store, trust=trust)
    own = bundle.own_network
    network = build_trusted(bundle, store) if own else build_network(bundle.network_def)
    torch.save(network.state_dict(), weights)
    open_bundle(str(folder), store, trust=trust)


if __name__ == "__main__":
    main()
