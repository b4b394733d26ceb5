"""A bundle is data: nowhere is code of a file run without trust. A search, and attempts.

Attempts that stand elsewhere: weights, ``test_bundle.py``; nnU-Net's checkpoints and forged types,
``test_nnunet_folder.py``; a training's checkpoint, ``test_checkpoint.py``; scripts and expressions
of trusted bundles, ``test_trusted.py``; expressions that are read, ``test_expressions.py``.
"""

import ast
import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundles import CT, random_bundle
from cohorts import write_tiny
from nnunet_models import write_model

import unet_pipeline
import unet_pipeline_flows
from unet_pipeline.cluster.executor import SerialExecutor
from unet_pipeline.config import ClusterSettings, SegmentSettings
from unet_pipeline.config.sites import read_site
from unet_pipeline.errors import RequestError
from unet_pipeline.jobs.segment import open_segment, run_segment
from unet_pipeline.networks.loading import load_bundle, load_network
from unet_pipeline.opening import open_model
from unet_pipeline.storage.store import Store

STORE = Store()

# What can run what a file says, by the last parts of its name.
RUN_CODE = {
    "eval", "exec", "compile", "__import__", "import_module", "exec_module",
    "spec_from_file_location", "pydoc.locate", "run_path", "run_module",
    "pickle.load", "pickle.loads", "Unpickler", "cloudpickle.loads", "joblib.load", "dill.loads",
    "marshal.loads", "shelve.open", "read_pickle",
    "torch.load", "jit.load", "export.load", "np.load", "numpy.load",
    "yaml.load", "full_load", "unsafe_load",
    "system", "popen", "Popen", "subprocess.run", "subprocess.call", "check_output", "check_call",
    "ConfigParser", "get_parsed_content",
}  # fmt: skip
ALLOWED = {
    ("networks/nnunet/label_steps.py", "pickle.Unpickler"): "names only, none is looked up",
    ("networks/pickles.py", "torch.load"): "weights_only=True",
    ("networks/weights.py", "safetensors.torch.load"): "a format without code",
    ("networks/programs.py", "torch.export.load"): "a program: check_trust was asked",
    ("networks/programs.py", "torch.jit.load"): "a program: check_trust was asked",
    ("networks/trusted.py", "ConfigParser"): "the code of a trusted bundle",
    ("networks/trusted.py", "_parser(folder).get_parsed_content"): "the code of a trusted bundle",
    ("training/array_cache.py", "np.load"): "a file of this process; pickles are off by default",
    ("volume/kept.py", "np.load"): "a file of scratch; pickles are off by default",
    ("inference/engines/__init__.py", "import_module"): "modules of ours, by a name of EngineName",
    ("inference/engines/tensorrt.py", "import_module"): "a package, by a fixed name",
    ("__init__.py", "import_module"): "modules of ours, by the names in a table there",
    ("cli/commands.py", "import_module"): "modules of ours, by the names in a table there",
    ("cluster/places/__init__.py", "import_module"): "modules of ours, by a name of ClusterName",
    ("cluster/plugins.py", "import_module"): "modules of ours, by fixed names",
    ("volume/formats/__init__.py", "import_module"): "modules of ours, by the names of FORMATS",
    ("postprocessing/__init__.py", "import_module"): "modules of ours, by a PostprocessName",
    ("local/processes.py", "subprocess.Popen"): "our own servers, without a shell",
    ("local/prefect_server.py", "subprocess.run"): "the prefect program, without a shell",
}
HARMLESS = {"re.compile", "torch.compile", "torch_tensorrt.dynamo.compile"}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for package in (unet_pipeline, unet_pipeline_flows):
        folder = Path(package.__file__).parent
        for path in sorted(folder.rglob("*.py")):
            yield path.relative_to(folder).as_posix(), ast.parse(path.read_text())


def suspects(tree: ast.AST) -> Iterator[str]:
    """Yield the names of what could run code, called here or handed on."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
            name = ast.unparse(node)
            last = name.split(".")
            known = name in RUN_CODE or ".".join(last[-2:]) in RUN_CODE or last[-1] in RUN_CODE
            of_a_network = name.endswith(".eval")
            if known and not of_a_network and name not in HARMLESS:
                yield name


def found_in_sources() -> set[tuple[str, str]]:
    return {(path, name) for path, tree in sources() for name in suspects(tree)}


def test_every_call_that_can_run_code_is_known_by_name():
    assert found_in_sources() == set(ALLOWED)


@pytest.mark.parametrize(
    "line",
    [
        "pickle.loads(data)", "load = pickle.load", "import pickle\npickle.Unpickler(file).load()",
        "torch.load(file)", "eval('1')", "importlib.import_module(name)", "os.system('ls')",
        "yaml.load(text)", "np.load(path, allow_pickle=True)", "joblib.load(path)",
        "subprocess.run('ls', shell=True)", "monai.bundle.ConfigParser()", "pydoc.locate(name)",
    ],
)  # fmt: skip
def test_the_search_finds(line):
    assert [*suspects(ast.parse(line))]


def test_no_name_is_imported_past_the_search():
    """``from pickle import loads as read`` would hide the call."""
    hidden = {name.split(".")[-1] for name in RUN_CODE}
    modules = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "runpy", "code"}
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                names = {alias.name for alias in node.names if alias.asname} & hidden
                assert not names, path
                from_them = {alias.name for alias in node.names} - {"UnpicklingError"}
                assert node.module not in modules or not from_them, path


def test_arguments_that_would_let_code_run_are_nowhere():
    for path, tree in sources():
        for node in ast.walk(tree):
            for word in node.keywords if isinstance(node, ast.Call) else ():
                value = ast.unparse(word.value)
                assert (word.arg, value) not in {
                    ("shell", "True"), ("allow_pickle", "True"), ("weights_only", "False"),
                    ("verify", "False"),
                }, path  # fmt: skip
                if ast.unparse(node.func) == "torch.load":
                    assert "weights_only" in {one.arg for one in node.keywords}, path


# --- attempts: each file would make the folder ``mark``


@pytest.fixture
def mark(tmp_path) -> Path:
    return tmp_path / "code ran"


class Harmful:
    """Unpickled without care, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def refused(model: Path | str) -> str:
    """Return the code with which a bundle is refused on its way to a run."""
    settings = SegmentSettings(images="-", model=str(model), output="-")
    with pytest.raises(RequestError) as caught:
        load_network(open_model(settings, STORE).bundle, STORE)
    return caught.value.code


def with_entry(folder: Path, **changes: object) -> Path:
    path = folder / "configs/inference.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


@pytest.fixture
def bundle(tmp_path) -> Path:
    return Path(random_bundle(tmp_path / "bundle", features=(4, 8)))


def with_pickle(bundle: Path, content: object, legacy: bool) -> Path:
    (bundle / "models/model.safetensors").unlink()
    torch.save(content, bundle / "models/model.pt", _use_new_zipfile_serialization=not legacy)
    return bundle


@pytest.mark.parametrize("legacy", [False, True])
def test_pickled_weights(bundle, mark, legacy):
    weights = load_network(load_bundle(str(bundle), STORE), STORE).state_dict()
    assert refused(with_pickle(bundle, {**weights, "more": Harmful(mark)}, legacy)) == (
        "weights_unsafe"
    )
    assert not mark.exists()
    torch.load(bundle / "models/model.pt", weights_only=False)
    assert mark.exists()  # the file is as harmful as it should be


def test_a_checkpoint_of_nnunet(tmp_path, mark):
    model = write_model(tmp_path / "model")
    path = model / "fold_0/checkpoint_final.pth"
    torch.save({"network_weights": {}, "logging": Harmful(mark)}, path)
    assert refused(model) == "weights_unsafe"
    assert not mark.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"network_class_name": "os.mkdir", "arch_kwargs": {"path": "MARK"}},
        {"arch_kwargs": {"n_stages": 3, "conv_op": "os.mkdir", "conv_op_kwargs": "MARK"}},
    ],
    ids=["the network", "a layer"],
)
def test_names_in_the_plans_of_nnunet(tmp_path, mark, changes):
    path = write_model(tmp_path / "model") / "plans.json"
    plans = json.loads(path.read_text())
    plans["configurations"]["base"]["architecture"].update(changes)
    path.write_text(json.dumps(plans).replace("MARK", str(mark)))
    assert refused(path.parent) in {"plan_unsupported", "network_unknown", "network_invalid"}
    assert not mark.exists()


def harm(mark: Path) -> str:
    return f"__import__('os').mkdir({str(mark)!r})"


ENTRIES: dict[str, Callable[[Path], dict[str, object]]] = {
    "an expression for the network": lambda mark: {"network_def": f"${harm(mark)}"},
    "a callable as the network": lambda mark: {
        "network_def": {"_target_": "os.mkdir", "path": str(mark)}
    },
    "an argument of the network": lambda mark: {
        "network_def": {"_target_": "BasicUNet", "spatial_dims": f"${harm(mark)} or 3"}
    },
    "a module to import": lambda mark: {"imports": [f"${harm(mark)}"], "network_def": "$1"},
    "a transform": lambda mark: {
        "preprocessing": [*CT, {"_target_": "os.mkdir", "path": str(mark)}]
    },
    "a transform's function": lambda mark: {
        "preprocessing": [*CT, {"_target_": "Lambdad", "keys": "image", "func": f"${harm(mark)}"}]
    },
    "the window": lambda mark: {
        "inferer": {"roi_size": f"$[32] * 3 if {harm(mark)} else [32] * 3"}
    },
    "the blend": lambda mark: {
        "inferer": {"roi_size": [32, 32, 32], "mode": f"$({harm(mark)}, 'gaussian')[1]"}
    },
    "a macro of another file": lambda mark: {"network_def": f"%{mark}.json::network_def"},
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_entries_of_a_configuration(bundle, mark, entry):
    codes = {"bundle_expression", "network_unknown", "transform_unsupported", "bundle_invalid"}
    assert refused(with_entry(bundle, **ENTRIES[entry](mark))) in codes
    assert not mark.exists()


def test_what_is_not_needed_is_not_even_looked_at(bundle, mark):
    entries = {"initialize": f"${harm(mark)}", "run": [f"${harm(mark)}"],
               "handlers": [{"_target_": "os.mkdir", "path": str(mark)}]}  # fmt: skip
    (bundle / "scripts").mkdir()
    (bundle / "scripts/__init__.py").write_text(harm(mark))
    load_network(load_bundle(str(with_entry(bundle, **entries)), STORE), STORE)
    assert not mark.exists()


def test_yaml_for_a_bundle_is_not_read(bundle, mark):
    (bundle / "configs/inference.json").unlink()
    (bundle / "configs/inference.yaml").write_text(
        f"!!python/object/apply:os.mkdir [{str(mark)!r}]"
    )
    assert refused(bundle) == "bundle_invalid"
    assert not mark.exists()


@pytest.mark.filterwarnings("ignore:.*TorchScript.*:DeprecationWarning")
@pytest.mark.parametrize("kind", ["ts", "pt2"])
def test_programs_without_trust_are_not_opened(bundle, kind):
    """The file is no program at all: had torch opened it, the code would be ``bundle_invalid``."""
    (bundle / "models/model.safetensors").unlink()
    (bundle / f"models/model.{kind}").write_bytes(b"not opened")
    assert refused(bundle) == "program_untrusted"


def test_a_program_that_goes_by_the_name_of_weights(bundle):
    """TorchScript is a zip, too: as ``model.pt`` torch.load would run it, if it were let."""
    (bundle / "models/model.safetensors").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that TorchScript is to go
        scripted = torch.jit.trace(torch.nn.Conv3d(1, 3, 3), torch.zeros(1, 1, 8, 8, 8))
        torch.jit.save(scripted, bundle / "models/model.pt")
        assert refused(bundle) in {"bundle_invalid", "weights_unsafe"}


@pytest.mark.parametrize("kind", ["slurm", "kubernetes"])
def test_a_site_file(tmp_path, mark, kind):
    path = tmp_path / "site.yaml"
    path.write_text(f"account: !!python/object/apply:os.mkdir [{str(mark)!r}]\n")
    with pytest.raises(RequestError) as caught:
        read_site(kind, str(path))
    assert caught.value.code == "site_unreadable"
    assert not mark.exists()


def test_extensions_of_a_volume_and_npy_files_beside_it(tmp_path, mark):
    """A pickle in a header's extension stays one, and what is no NIfTI file is not looked at."""
    import pickle

    write_tiny(STORE, str(tmp_path), 1)
    (path,) = (tmp_path / "images").iterdir()
    image = nib.load(path)
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, pickle.dumps(Harmful(mark))))
    nib.save(image, path)
    np.save(path.with_name("more.npy"), np.array([Harmful(mark)], object), allow_pickle=True)
    settings = SegmentSettings(
        images=str(tmp_path / "images"), model="phantom", output=str(tmp_path / "out"),
        cluster=ClusterSettings(kind="serial", threads=1),
    )  # fmt: skip
    (record,) = run_segment(open_segment(settings), SerialExecutor())
    assert record.status == "done", record.message
    assert not mark.exists()
