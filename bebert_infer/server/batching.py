"""Texts of many clients, gathered into calls of the engine by one thread.

While the engine computes (native code, without Python's lock), the event loop reads further requests and puts their
texts into a queue; when it is done, the thread takes what is there. So batches grow with the load by themselves, and a
lone client never waits for others: only after a call with several texts does the thread look around for `gather`
seconds before a call with fewer than ENOUGH. What a text is answered does not depend on its batch.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from bebert_infer.early_exit import EarlyExit
from bebert_infer.ensemble import Ensemble
from bebert_infer.prediction import Prediction
from bebert_infer.server.metrics import Metrics
from bebert_infer.server.refusal import Refusal, overloaded
from bebert_infer.server.settings import Settings
from bebert_infer.server.votes import member_answers
from bebert_infer.text.windows import EncodedText

ENOUGH = 8  # texts of which a call takes no longer a text than of more: 4.4 ms of CPU for 2, 3.0 for 8, 2.9 for 64

log = logging.getLogger("bebert.server")


class Job:
    """The texts of one request, and where their answers go: Predictions, or with `votes` what `member_answers` says."""

    def __init__(self, encoded: Sequence[EncodedText], early_exit: EarlyExit | None, votes: bool = False):
        self.encoded, self.way = encoded, (early_exit, votes)
        self.answers: list[Any] = [None] * len(encoded)
        self.open = len(encoded)
        self.error: Exception | None = None
        self.given_up = False
        self.future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()


Item = tuple[Job, int]  # a text: its request, its number there


class Batcher:
    """A bounded queue of texts, and the thread that calls the engine with them."""

    def __init__(self, ensemble: Ensemble, settings: Settings, metrics: Metrics):
        self._ensemble, self._settings, self._metrics = ensemble, settings, metrics
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._work, name="bebert_engine", daemon=True)
        metrics.watch_queue(lambda: len(self._items))

    def start(self) -> None:
        """Begin to answer, for the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether anybody answers."""
        return self._thread.is_alive()

    async def finish(self) -> None:
        """Answer what is in the queue, then end."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    async def answers(
        self, encoded: Sequence[EncodedText], early_exit: EarlyExit | None = None, votes: bool = False
    ) -> list[Any]:
        """Answers to these texts, in order.

        Raises Refusal: 503 where the queue has no room for them, 504 after the answer timeout, 500 if the engine fails.
        """
        if len(self._items) + len(encoded) > self._settings.queue:
            raise overloaded(f"{len(self._items):,} texts wait already, and {self._settings.queue:,} may (--queue)")
        job = Job(encoded, early_exit, votes)
        with self._changed:
            self._items.extend((job, index) for index in range(len(encoded)))
            self._changed.notify()
        try:
            async with asyncio.timeout(self._settings.answer_timeout):
                return await job.future
        except TimeoutError:
            limit = self._settings.answer_timeout
            raise Refusal(504, f"no answer within {limit:g} s (--answer-timeout); send fewer texts at a time") from None
        finally:
            job.given_up = True  # what of it still waits is not computed for nobody

    def _work(self) -> None:
        several, enough = False, min(ENOUGH, self._settings.batch)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ending)
                if not self._items:
                    return
                if several and not self._ending:
                    self._changed.wait_for(lambda: len(self._items) >= enough, self._settings.gather)
                batch = self._taken()
            several = len(batch) > 1
            for way in dict.fromkeys(job.way for job, _ in batch):
                self._answer(way, [item for item in batch if item[0].way == way])

    def _taken(self) -> list[Item]:
        """The next texts, as many as have `batch` windows together, at least one."""
        batch: list[Item] = []
        windows = 0
        while self._items:
            job, index = self._items[0]
            count = len(job.encoded[index].windows)
            if batch and windows + count > self._settings.batch:
                break
            self._items.popleft()
            if not job.given_up and job.error is None:
                batch.append((job, index))
                windows += count
        return batch

    def _answer(self, way: tuple[EarlyExit | None, bool], items: list[Item]) -> None:
        """Answer texts that are to be answered in the same way, and tell the event loop of requests that are done."""
        encoded = [job.encoded[index] for job, index in items]
        started = time.perf_counter()
        try:
            answers = self._computed(encoded, *way)
        except Exception as error:  # whatever it is, these clients get an answer and the thread goes on
            log.exception("the engine failed on a batch of %d texts", len(items))
            for job, _ in items:
                job.error = error
            done = list(dict.fromkeys(job for job, _ in items))
        else:
            self._metrics.batch_done(len(items), time.perf_counter() - started)
            done = list(_finished(items, answers))
        if done:
            self._loop.call_soon_threadsafe(_resolve, done)

    def _computed(self, encoded: list[EncodedText], early_exit: EarlyExit | None, votes: bool) -> Sequence[Any]:
        pool = self._settings.long.pool
        if votes:
            return [member_answers(self._ensemble, one, pool) for one in encoded]
        answers: list[Prediction] = self._ensemble.predict_encoded(encoded, pool, early_exit)
        self._metrics.members_ran(sum(answer.members_run for answer in answers))
        return answers


def _finished(items: list[Item], answers: Sequence[Any]) -> Iterator[Job]:
    for (job, index), answer in zip(items, answers, strict=True):
        job.answers[index] = answer
        job.open -= 1
        if not job.open:
            yield job


def _resolve(jobs: list[Job]) -> None:
    for job in jobs:
        if job.future.done():  # given up by its client's timeout, or its other part failed
            continue
        if job.error is not None:
            job.future.set_exception(Refusal(500, "the engine failed on this request; the server's log says more"))
        else:
            job.future.set_result(job.answers)
