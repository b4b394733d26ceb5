"""One run at a time has a case: taken once, renewed, taken over when its run is dead."""

import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
from faulty_s3 import PASS, Answer, faulty_s3

from unet_pipeline.errors import CaseError, RequestError
from unet_pipeline.storage import meeting, presence
from unet_pipeline.storage.leases import Leases
from unet_pipeline.storage.meeting import present
from unet_pipeline.storage.presence import Presence, read_sign
from unet_pipeline.storage.store import Store, join

LIFE = presence.LIFE_SECONDS


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def passes(self, seconds, *speaking):
        """Let time pass in which some runs say that they live."""
        for _ in range(12):
            self.now += seconds / 12
            for one in speaking:
                one.presence.renew()


@pytest.fixture
def clock(monkeypatch):
    """The clock of runs that cannot see each other's processes."""
    clock = Clock()
    monkeypatch.setattr(presence, "_now", clock)
    monkeypatch.setattr(presence, "_MACHINE", "")
    monkeypatch.setattr(meeting, "LOOK_SECONDS", 0.05)
    return clock


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "out")


def opened(place, count=2):
    found = [Leases(Store(), place, f"run-{number}") for number in range(count)]
    for one in found:
        one.presence.renew()
    return found


def test_a_case_is_free_when_its_run_lets_go_of_it_and_never_before(place, clock):
    first, second = opened(place)
    assert first.take("a")
    assert (second.take("a"), second.is_free("a"), second.take("b")) == (False, False, True)
    clock.passes(3 * LIFE, first, second)
    assert (second.take("a"), second.is_free("a")) == (False, False)
    first.release("a")
    assert second.is_free("a")
    assert second.take("a")


def test_a_run_that_is_silent_for_its_life_is_taken_over_and_knows_it(place, clock):
    first, second = opened(place)
    assert first.take("a")
    assert not second.take("a")
    clock.passes(1.5 * LIFE, second)
    assert second.take("a")
    assert (first.holds("a"), second.holds("a")) == (False, True)
    first.release("a")
    assert not first.take("a")
    assert second.holds("a")


def test_the_sign_of_a_process_that_is_gone_is_over_at_once_and_of_an_old_one_of_any_machine(place):
    mine = Presence(Store(), place, "mine")
    mine.renew()
    (url,) = Store().list_files(place)
    sign = read_sign(Store().read(url))
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    assert not sign.is_over
    assert replace(sign, pid=int(gone.stdout)).is_over
    assert not replace(sign, machine="another", pid=int(gone.stdout)).is_over
    assert replace(sign, machine="another", renewed=time.time() - 3600).is_over


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"made_by": "unet-pipeline"}'])
def test_what_is_no_sign_is_no_run(place, data):
    mine = Presence(Store(), place, "mine")
    Store().write(join(mine.folder, "signs", "strange.json"), data)
    assert read_sign(data) is None
    assert mine.others() == []


def test_of_many_that_take_at_once_one_has_the_case_also_from_a_dead_run(place, clock):
    dead, *runs = opened(place, 5)
    names = [f"case-{number}" for number in range(20)]
    assert all(dead.take(name) for name in names[::2])
    dead.presence.end()
    together = Barrier(len(runs))

    def take_all(run):
        taken = []
        for name in names:
            together.wait()
            run.presence.renew()
            taken += [name] if run.take(name) else []
        return taken

    with ThreadPoolExecutor(len(runs)) as pool:
        taken = Counter(name for found in pool.map(take_all, runs) for name in found)
    assert set(taken.values()) == {1}
    assert taken.keys() == set(names)


def test_a_store_without_conditions_is_named_once_and_no_case_is_had_twice(s3_env, caplog):
    runs = opened(join(s3_env.bucket("leases"), "out"), 2)
    names, together = [f"case-{number}" for number in range(15)], Barrier(2)

    def take_all(run):
        taken = []
        for name in names:
            together.wait()
            taken += [name] if run.take(name) else []
        return taken

    with ThreadPoolExecutor(2) as pool:
        taken = Counter(name for found in pool.map(take_all, runs) for name in found)
    assert max(taken.values(), default=1) == 1
    assert caplog.text.count("knows no conditional writes") == 2  # once for each run
    first, second = runs
    assert first.take("alone")
    assert (second.take("alone"), second.is_free("alone")) == (False, False)
    first.release("alone")
    assert second.take("alone")


def test_a_store_with_conditions_is_asked_three_times_for_a_case(s3_env, monkeypatch, clock):
    """A proxy keeps its word for a server that does not."""
    place, direct = join(s3_env.bucket("leases"), "out"), s3_env.store
    asked = []

    def rule(request):
        asked.append(request.method)
        url = f"s3:/{request.path.partition('?')[0]}"
        new, old = (request.headers.get(f"If-{kind}") for kind in ("None-Match", "Match"))
        there = direct.find(url) if new or old else None
        fails = (new and there) or (old and (there is None or there.etag != old.strip('"')))
        return Answer(412, "PreconditionFailed") if fails else PASS

    with faulty_s3(s3_env.endpoint_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.restart(rule)
        first, second = opened(place)
        assert first.take("probed first")
        assert second.take("probed, too")
        asked.clear()
        assert first.take("a")
        first.release("a")
        assert asked == ["PUT", "DELETE"]
        assert first.take("a")
        assert not second.take("a")
        clock.passes(1.5 * LIFE, second)
        assert second.take("a")
        assert not first.holds("a")


def test_a_version_is_asked_for_without_quotes_where_the_store_compares_them(s3_env, monkeypatch):
    """RADOS gateways refuse an etag in quotes, which others want."""
    url = join(s3_env.bucket("quotes"), "object")

    def rule(request):
        quoted = (request.headers.get("If-Match") or "").startswith('"')
        return Answer(412, "PreconditionFailed") if quoted else PASS

    with faulty_s3(s3_env.endpoint_url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.restart(rule)
        store = Store()
        store.put(url, b"first", None)
        seen = store.find(url)
        store.put(url, b"second", seen)
        with pytest.raises(CaseError) as caught:
            store.put(url, b"third", seen)
        assert caught.value.code == "output_changed"
        assert store.read(url) == b"second"


def test_a_run_that_wants_to_be_alone_is_refused_or_waits(place, clock, caplog):
    first, second = (Presence(Store(), place, name) for name in "ab")
    order = []
    with present([first], "refuse"):
        with pytest.raises(RequestError) as caught, present([second], "refuse"):
            order.append("never")
        assert caught.value.code == "output_in_use"
        with present([second], "share"):
            order.append("shares")
        with ThreadPoolExecutor(1) as pool:

            def wait():
                with present([second], "wait"):
                    order.append("waited")

            waiting = pool.submit(wait)
            while not caplog.records:  # it says that it waits
                time.sleep(0.01)
            order.append("ends")
            first.end()
            waiting.result()
    assert order == ["shares", "ends", "waited"]
    assert Store().list_files(place) == []


def test_of_those_that_want_to_be_alone_and_begin_at_once_one_works_at_a_time(place, clock):
    at_work, most, together = [], [], Barrier(3)

    def work(number):
        together.wait()
        with present([Presence(Store(), place, f"run-{number}")], "wait"):
            at_work.append(number)
            time.sleep(0.1)
            most.append(len(at_work))
            at_work.remove(number)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    assert most == [1, 1, 1]
