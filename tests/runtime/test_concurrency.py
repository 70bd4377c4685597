"""One ensemble under many threads, forks, spawns, interrupts and exits: right answers, no deadlock, no crash.

What could hang runs in a process of its own with a time limit, so that a deadlock fails a test instead of the run.
"""

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from bebert_infer import Ensemble, InputError, ModelFormatError
from bebert_infer.measure.sample_models import random_model
from bebert_infer.threads import _cgroup_quota, thread_budget

FROZEN = Path(__file__).parents[1] / "data" / "artifacts" / "v1"
FOLDER = FROZEN / "bebert_ensemble"
LIMIT = 120  # seconds, many times what is needed on a busy machine

# What every script begins with: a model of three members, requests of mixed sizes, and their answers one by one.
START = """
import atexit, faulthandler, os, signal, sys, threading, time
import numpy as np
from bebert_infer import Ensemble
from bebert_infer.measure.sample_models import random_model
rng = np.random.default_rng(0)
requests = []
for length in (1, 7, 64, 65, 130):
    for count in (1, 3):
        mask = np.arange(length) < rng.integers(1, length + 1, count)[:, None]
        requests.append((rng.integers(0, 50, (count, length)), mask))
artifact = random_model("tiny", SCHEME, 3, vocab_size=50)
expected = [Ensemble(artifact, threads=1).member_logits(*request) for request in requests]
model = Ensemble(artifact, threads=THREADS)
def right(number):
    return np.array_equal(model.member_logits(*requests[number % len(requests)]), expected[number % len(requests)])
"""


def run(code: str, threads: int = 2, scheme: str = "1-1-1", limit: float = LIMIT) -> subprocess.CompletedProcess[str]:
    start = START.replace("THREADS", str(threads)).replace("SCHEME", repr(scheme))
    command = [sys.executable, "-W", "ignore", "-c", start + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout[-500:]} {done.stderr[-3000:]}"
    return done


@pytest.mark.parametrize("scheme", ["1-1-1", "1-1-4"])
def test_32_threads_with_mixed_requests_get_the_answers_of_one(scheme):
    code = """
wrong = []
def call(seed):
    for number in np.random.default_rng(seed).integers(0, len(requests), 6):
        if not right(number):
            wrong.append(number)
callers = [threading.Thread(target=call, args=(seed,), daemon=True) for seed in range(32)]
for caller in callers: caller.start()
for caller in callers: caller.join(100)
assert not wrong and not any(caller.is_alive() for caller in callers), wrong
# One call has its turn at a time, so one workspace a member is enough.
assert [len(native._free) for native in model.engine.members] == [1, 1, 1]
"""
    run(code, 4, scheme)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_children_forked_while_threads_compute_answer_right():
    """A fork copies locks in the state that they are in, and only one of the threads."""
    code = """
stop = threading.Event()
def load():
    number = 0
    while not stop.is_set():
        assert right(number)
        number += 1
callers = [threading.Thread(target=load, daemon=True) for _ in range(4)]
for caller in callers: caller.start()
children = []
for turn in range(12):
    time.sleep(0.01)
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(30, file=sys.__stderr__)
        signal.alarm(60)  # a deadlock ends the child, not the test
        os._exit(0 if right(turn) and right(turn + 1) else 7)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
stop.set()
assert codes == [0] * 12, codes
assert right(3)
"""
    run(code)
    run(code, 3, "1-1-4")


def test_nothing_in_the_runtime_locks_behind_the_back_of_a_fork():
    """cached_property holds a lock until Python 3.12: a fork in that moment once left children waiting for ever."""
    root = Path(__file__).parents[2]
    files = [*(root / "bebert_infer").rglob("*.py"), *(root / "kernels" / "bebert_kernels").rglob("*.py")]
    assert len(files) > 100
    assert not [file.name for file in files if "@cached_property" in file.read_text("utf-8")]


def test_a_model_goes_to_a_spawned_process_by_its_path_and_options():
    model = Ensemble.from_pretrained(FOLDER, threads=2, backend="numba")
    data = pickle.dumps(model)
    assert len(data) < 1000
    again = pickle.loads(data)
    assert (again.threads, again.threads_from, again.backend) == (2, "argument", "native")
    ids = np.arange(12).reshape(2, 6)
    expected = model.member_logits(ids)
    np.testing.assert_array_equal(again.member_logits(ids), expected)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply_async(model.member_logits, (ids,)).get(LIMIT)
    np.testing.assert_array_equal(found, expected)


def test_a_model_is_pickled_by_its_folder_wherever_the_process_has_gone_since(tmp_path, monkeypatch):
    """Loaded by a relative path, it was said to be in memory only."""
    monkeypatch.chdir(FOLDER.parent)
    model = Ensemble.from_pretrained(FOLDER.name, backend="reference")
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(pickle.dumps(model)).config == model.config


def test_a_model_that_lies_in_no_folder_or_has_changed_is_not_pickled(tmp_path):
    with pytest.raises(InputError, match="in memory only .*write it with save_pretrained"):
        pickle.dumps(Ensemble(random_model("tiny", "1-1-1", 1, vocab_size=50)))
    link = tmp_path / "model"
    link.symlink_to(FOLDER)
    data = pickle.dumps(Ensemble.from_pretrained(link))
    link.unlink()
    with pytest.raises(ModelFormatError, match="there is no model folder"):
        pickle.loads(data)
    link.symlink_to(FROZEN / "bibert_1_1_1")
    with pytest.raises(InputError, match="holds another model than when it was pickled"):
        pickle.loads(data)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_interrupt_in_a_call_leaves_no_thread_and_no_wrong_answer_behind(threads):
    """Control-C at many moments: KeyboardInterrupt comes up, nothing computes any more, the next call is right."""
    code = """
import random
random.seed(1)
interrupted = 0
def bell(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, bell)
long = rng.integers(0, 50, (4, 130))
want = model.member_logits(long)
started = time.perf_counter()
model.member_logits(long)
seconds = time.perf_counter() - started
for turn in range(60):
    try:
        signal.setitimer(signal.ITIMER_REAL, max(1e-5, random.random() * seconds * 1.2))
        found = model.member_logits(long)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupted += 1
    else:
        assert np.array_equal(found, want)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert right(turn), turn
assert interrupted > 5, interrupted
assert threading.active_count() <= THREADS
"""
    run(code.replace("THREADS", str(threads)), threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_process_ends_well_while_daemon_threads_compute(threads):
    """The interpreter goes away under them; the end must neither crash nor hang nor complain."""
    code = """
children = []
for turn in range(8):
    child = os.fork()
    if child == 0:
        def load(number):
            while True:
                assert right(number)
                number += 1
        for number in range(4):
            threading.Thread(target=load, args=(number,), daemon=True).start()
        if turn % 5 == 0:
            atexit.register(lambda: os._exit(9) if not right(2) else None)  # the main thread may still ask
        time.sleep(0.002 * turn)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        sys.exit(0)  # through all of the interpreter's end
    children.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert children == [0] * len(children), children
"""
    assert run(code, threads).stderr == ""


def test_threads_go_when_the_model_goes():
    before = threading.active_count()
    for _ in range(3):
        model = Ensemble(random_model("tiny", "1-1-1", 1, vocab_size=50), threads=4)
        model.logits(np.zeros((2, 9), np.int64))
        assert threading.active_count() == before + 3
        del model
        for thread in threading.enumerate():
            if thread.name.startswith("bebert"):
                thread.join(LIMIT)
        assert threading.active_count() == before


def test_a_budget_far_above_the_work_starts_no_thread_without_work():
    before = threading.active_count()
    model = Ensemble(random_model("tiny", "1-1-1", 1, vocab_size=50), threads=3000)
    model.logits(np.zeros((2, 9), np.int64))
    assert before < threading.active_count() < before + 2 * 9


def test_threads_that_the_system_refuses_are_one_sentence(monkeypatch):
    """The budget is more than memory or a limit of the system allows: the next call with fewer works."""
    model = Ensemble(random_model("tiny", "1-1-1", 1, vocab_size=50), threads=9)
    ids = np.zeros((1, 36), np.int64)
    started, start = [], threading.Thread.start

    def refuse(self):
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        started.append(start(self))

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(InputError, match="9 threads were wanted, the system gives this process 4; pass threads=…"):
            model.logits(ids)
    np.testing.assert_array_equal(model.logits(ids), Ensemble(model.artifact, threads=1).logits(ids))


RUNNABLE = """
def running():
    count = 0
    for task in os.listdir("/proc/self/task"):
        try:
            if int(task) != threading.get_native_id():
                count += open(f"/proc/self/task/{task}/stat").read().rsplit(")", 1)[1].split()[0] == "R"
        except OSError:
            pass
    return count
def load():
    number = 0
    while not stop.is_set():
        assert right(number)
        number += 1
stop = threading.Event()
callers = [threading.Thread(target=load, daemon=True) for _ in range(CALLERS)]
for caller in callers: caller.start()
seen = []
end = time.monotonic() + 1.0
while time.monotonic() < end:
    seen.append(running())
stop.set()
for caller in callers: caller.join(60)
print(model.threads, sorted(seen)[len(seen) * 9 // 10], len(seen))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
@pytest.mark.parametrize(("threads", "callers"), [(1, 1), (3, 1), (2, 8)])
def test_no_more_threads_run_than_the_budget_allows(threads, callers):
    """With several callers one more may be preparing its input, in the interpreter.

    In nine of ten looks: a look goes from thread to thread while one falls asleep and the next wakes, so that on a busy
    machine some see both.
    """
    words = run(RUNNABLE.replace("CALLERS", str(callers)), threads).stdout.split()
    budget, most, looks = map(int, words)
    assert looks > 5
    assert 1 <= most <= budget + (callers > 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_the_budget_is_the_cpus_that_the_process_may_use():
    code = """
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
del os.environ["BEBERT_THREADS"]
one = Ensemble(artifact)
assert (one.threads, one.threads_from) == (1, "CPU affinity"), (one.threads, one.threads_from)
assert np.array_equal(one.member_logits(*requests[3]), expected[3])
"""
    run("os.environ['BEBERT_THREADS'] = '2'\n" + code)


def _files(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


V2, V1 = "0::/system.slice/box.service\n", "5:memory:/a\n4:cpu,cpuacct:/docker/b\n1:name=systemd:/x\n0::/x\n"
BOX, DOCKER = "sys/fs/cgroup/system.slice/box.service/cpu.max", "sys/fs/cgroup/cpu,cpuacct/docker/b/cpu.cfs_"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),  # seen from in a container
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": V2, BOX: "50000 100000\n"}, 1),
        ({"proc/self/cgroup": V2, BOX: "max 100000\n", "sys/fs/cgroup/system.slice/cpu.max": "300000 100000\n"}, 3),
        ({"proc/self/cgroup": V2, BOX: "400000 100000\n", "sys/fs/cgroup/system.slice/cpu.max": "200000 100000"}, 2),
        ({"proc/self/cgroup": V2, BOX: "rubbish\n"}, None),
        ({"proc/self/cgroup": V2, BOX: "100000 0\n"}, None),
        ({"proc/self/cgroup": V1, DOCKER + "quota_us": "250000\n", DOCKER + "period_us": "100000\n"}, 3),
        ({"proc/self/cgroup": V1, DOCKER + "quota_us": "-1\n", DOCKER + "period_us": "100000\n"}, None),
        # In a container of v1 its own group is mounted as the root.
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        ({"proc/self/cgroup": "no colon\n\n7:\n"}, None),
    ],
)
def test_control_groups_limit_the_budget(tmp_path, files, quota):
    assert _cgroup_quota(_files(tmp_path, files)) == quota


def test_the_smaller_of_quota_and_affinity_counts(monkeypatch):
    monkeypatch.delenv("BEBERT_THREADS", raising=False)
    for quota in (1, 1000, None):
        monkeypatch.setattr("bebert_infer.threads._cgroup_quota", lambda quota=quota: quota)
        assert thread_budget() == (
            (1, "cgroup quota") if quota == 1 else (len(os.sched_getaffinity(0)), "CPU affinity")
        )
