"""Workers that start while a request is checked: ready for the first call, gone at the end."""

import gc
import multiprocessing
import signal
import sys
from contextlib import redirect_stdout
from importlib import import_module
from io import StringIO

import pytest

from unet_pipeline import stopping
from unet_pipeline.cluster.spec import ClusterSpec
from unet_pipeline.cluster.starting import starting
from unet_pipeline.errors import RequestError
from unet_pipeline.processes import lasting_imports


def test_workers_have_imported_when_the_first_call_comes():
    with starting(ClusterSpec("local", 2)) as opened:
        executor = opened()
        assert executor.workers == 2
        for name in ("torch", "unet_pipeline.tasks"):
            assert executor.result(executor.submit(eval, f"{name!r} in __import__('sys').modules"))
        assert executor.result(executor.submit(gc.isenabled))
        assert executor.result(executor.submit(gc.get_freeze_count)) > 100_000


def test_a_wrong_request_leaves_no_process_behind():
    before = set(multiprocessing.active_children())
    wrong = RequestError("folder_missing", found="none", wanted="one", remedy="Make it")
    with pytest.raises(RequestError) as caught, starting(ClusterSpec("local", 2)):
        raise wrong
    assert caught.value is wrong
    assert set(multiprocessing.active_children()) <= before


def test_nothing_elsewhere_is_asked_for_before_it_is_opened():
    with starting(ClusterSpec("tcp://127.0.0.1:1")):
        pass
    with starting(ClusterSpec("slurm", site=None)):
        pass


def test_a_cluster_whose_package_takes_signals_for_its_own_does_not_keep_them():
    """As dask-jobqueue does where it is imported: Ctrl-C then ended a run with exit status 0."""
    before = signal.getsignal(signal.SIGINT)
    with stopping.signals_held():
        signal.signal(signal.SIGINT, lambda *_: None)
    assert signal.getsignal(signal.SIGINT) is before


def test_what_is_imported_for_good_is_nothing_to_the_collector(monkeypatch):
    before = gc.get_freeze_count()
    with lasting_imports():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == before, "nothing was imported"
    monkeypatch.delitem(sys.modules, "this", raising=False)
    with lasting_imports(), redirect_stdout(StringIO()):
        import_module("this")
    assert gc.isenabled()
    assert gc.get_freeze_count() > before
