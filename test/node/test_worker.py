from __future__ import annotations

import threading

import pytest

from depth_completion_ros.node.worker import Worker


class Bench:
    """A worker whose jobs wait until they are let go."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.done: list[int] = []
        self.superseded: list[int] = []
        self.errors: list[str] = []
        self.worker = Worker(
            self._work,
            on_superseded=self.superseded.append,
            on_error=lambda error: self.errors.append(str(error)),
        )
        self.worker.start()

    def _work(self, job: int) -> None:
        self.started.release()
        assert self.go.acquire(timeout=5)
        if job < 0:
            msg = f"job {job} is bad"
            raise ValueError(msg)
        self.done.append(job)


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    for _ in range(10):
        bench.go.release()
    assert bench.worker.stop()


def test_the_newest_waiting_job_is_done_and_older_ones_are_superseded(bench):
    bench.worker.submit(1)
    assert bench.started.acquire(timeout=5)
    for job in (2, 3, 4):
        bench.worker.submit(job)
    bench.go.release(2)
    assert bench.worker.drain(5)
    assert bench.done == [1, 4]
    assert bench.superseded == [2, 3]


def test_a_job_that_raises_is_reported_and_the_next_one_runs(bench):
    bench.go.release(2)
    bench.worker.submit(-1)
    assert bench.worker.drain(5)
    bench.worker.submit(2)
    assert bench.worker.drain(5)
    assert bench.errors == ["job -1 is bad"]
    assert bench.done == [2]


def test_draining_a_busy_worker_gives_up_in_time(bench):
    bench.worker.submit(1)
    assert bench.started.acquire(timeout=5)
    assert not bench.worker.drain(0.01)


def test_a_stopped_worker_forgets_the_waiting_job_and_takes_no_more(bench):
    bench.worker.submit(1)
    assert bench.started.acquire(timeout=5)
    bench.worker.submit(2)
    assert not bench.worker.stop(timeout=0.01)
    bench.worker.submit(3)
    bench.go.release()
    assert bench.worker.stop(timeout=5)
    assert bench.done == [1]
