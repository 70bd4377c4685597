"""Worker threads: they come when they are called, sleep when nobody calls, and nothing is done by half."""

import gc
import os
import sys
import threading
import time

import numpy as np
import pytest

from bebert_infer import Ensemble
from bebert_infer.measure.sample_models import random_model
from bebert_infer.native import team as teams
from bebert_kernels.abi import mailbox

LIMIT = 30.0  # seconds after which something hangs
IDS = np.arange(36)[None] % 50


def model_of(threads: int, members: int = 1) -> Ensemble:
    return Ensemble(random_model("tiny", "1-1-4", members, vocab_size=50), threads=threads)


def boxes_of(model: Ensemble) -> np.ndarray:
    workers = model.engine.team._workers
    assert workers is not None
    return workers.boxes


def wait_until(condition) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.001)


def asleep(model: Ensemble) -> bool:
    """Whether every worker that was needed sleeps; without a futex it does so in Python."""
    state = boxes_of(model)[: model.threads - 1, mailbox.STATE]
    return bool((state == (mailbox.ASLEEP if sys.platform == "linux" else mailbox.AWAY)).all())


def leave(boxes: np.ndarray) -> None:
    teams.ROUSE(boxes.ctypes.data, len(boxes), 1, 0, 0, 0)


def run_team(boxes: np.ndarray, threads: int, patience: int = 1_000_000) -> bool:
    """Whether shares without any jobs were run."""
    shares, done = np.zeros((threads, 2), np.int64), np.full(1, 7, np.int64)
    teams.RUN_TEAM(shares.ctypes.data, threads, boxes.ctypes.data, patience, done.ctypes.data, 0)
    return bool(done[0])


def test_workers_sleep_soon_after_a_call_and_wake_for_the_next():
    model, alone = model_of(3), model_of(1)
    for _ in range(3):
        np.testing.assert_array_equal(model.logits(IDS), alone.logits(IDS))
        wait_until(lambda: asleep(model))


def test_all_members_on_all_numbers_of_threads_answer_the_same():
    wanted = model_of(1, 5).member_logits(IDS)
    for threads in (2, 3, 4, 5, 7):
        np.testing.assert_array_equal(model_of(threads, 5).member_logits(IDS), wanted)


def test_without_a_worker_nothing_is_done_and_the_others_are_let_go():
    boxes, granted = teams._lines(3), os.sched_getaffinity(0)
    boxes[:, mailbox.CPU] = min(granted)
    boxes[0, mailbox.STATE] = mailbox.WAITING  # as if a thread looked at it; nobody looks at the second one
    assert not run_team(boxes, 3)
    assert boxes[:, mailbox.STATE].tolist() == [mailbox.WAITING, mailbox.AWAY, mailbox.AWAY]
    assert os.sched_getaffinity(0) == granted, "a mailbox without a thread moved the caller"


def test_a_worker_that_comes_late_is_waited_for():
    boxes = teams._lines(1)
    late = threading.Timer(0.05, lambda: teams.SERVE(boxes[0].ctypes.data, 1_000_000_000, 0, 0, 0, 0))
    late.start()
    assert run_team(boxes, 2, patience=int(LIMIT * 1e9))
    leave(boxes)
    late.join(LIMIT)
    assert boxes[0, mailbox.STATE] == mailbox.AWAY


@pytest.mark.parametrize("patience", [0, int(LIMIT * 1e9)])
def test_a_worker_leaves_when_it_is_asked_to_asleep_or_not(patience):
    boxes = teams._lines(1)
    for _ in range(100):
        boxes[:] = 0
        worker = threading.Thread(target=teams.SERVE, args=(boxes[0].ctypes.data, patience, 0, 0, 0, 0))
        worker.start()
        wait_until(lambda: boxes[0, mailbox.STATE] in (mailbox.WAITING, mailbox.ASLEEP))
        leave(boxes)
        worker.join(LIMIT)
        assert not worker.is_alive()


def test_workers_that_fall_asleep_at_once_miss_no_call():
    boxes = teams._lines(2)
    workers = [threading.Thread(target=teams.SERVE, args=(box.ctypes.data, 0, 0, 0, 0, 0)) for box in boxes]
    for worker in workers:
        worker.start()
    for _ in range(2000):
        assert run_team(boxes, 3, patience=int(LIMIT * 1e9))
    leave(boxes)
    for worker in workers:
        worker.join(LIMIT)
        assert not worker.is_alive()


def test_workers_go_with_their_model():
    model = model_of(3)
    model.logits(IDS)
    own = [thread for thread in threading.enumerate() if thread.name.startswith("bebert_")]
    wait_until(lambda m=model: asleep(m))
    del model
    gc.collect()
    wait_until(lambda: sum(not thread.is_alive() for thread in own) == 2)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked where threads run")
def test_a_worker_keeps_off_the_callers_cpu_and_within_its_cpus():
    """Linux often wakes a worker on the CPU of the caller, where it waits until the caller has done its own share."""
    boxes, granted = teams._lines(1), os.sched_getaffinity(0)
    if len(granted) < 2:
        pytest.skip("one CPU")
    worker = threading.Thread(target=teams.SERVE, args=(boxes[0].ctypes.data, 0, 0, 0, 0, 0))
    worker.start()
    wait_until(lambda: boxes[0, mailbox.STATE] == mailbox.ASLEEP)
    number = boxes[0, mailbox.THREAD]
    assert number == worker.native_id
    try:
        for cpu in granted:
            os.sched_setaffinity(0, {cpu})  # of this thread alone
            before = os.sched_getaffinity(number)
            assert run_team(boxes, 2, patience=int(LIMIT * 1e9))
            assert os.sched_getaffinity(number) == before  # there is no other for it
            os.sched_setaffinity(0, granted)
            wait_until(lambda: boxes[0, mailbox.STATE] == mailbox.ASLEEP)
            teams.ROUSE(boxes.ctypes.data, 1, 0, 0, 0, 0)
            assert len(granted - os.sched_getaffinity(number)) == 1
            wait_until(lambda: boxes[0, mailbox.STATE] == mailbox.ASLEEP)
    finally:
        os.sched_setaffinity(0, granted)
        leave(boxes)
        worker.join(LIMIT)


def test_mailboxes_are_cache_lines():
    boxes = teams._lines(5)
    assert boxes.ctypes.data % 64 == 0 and boxes.strides[0] % 64 == 0


@pytest.mark.parametrize("before", [False, True])
def test_an_interrupt_while_workers_are_woken_leaves_the_next_call_right(monkeypatch, before):
    model, alone = model_of(2), model_of(1)
    model.logits(IDS)
    wait_until(lambda: asleep(model))
    send = teams._Workers.send

    def interrupted(self, count):
        if not before:
            send(self, count)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(teams._Workers, "send", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.logits(IDS)
    np.testing.assert_array_equal(model.logits(IDS), alone.logits(IDS))


def test_threads_may_become_more_between_calls():
    model, wanted = model_of(4), model_of(1).logits(IDS)
    for tokens in (8, 12, 36, 8, 36):  # two, three and four threads
        np.testing.assert_array_equal(model.logits(IDS[:, :tokens]), model_of(1).logits(IDS[:, :tokens]))
    np.testing.assert_array_equal(model.logits(IDS), wanted)
