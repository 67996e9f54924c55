"""Work ahead: in order, bounded, failures beside their jobs, nothing left running."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pal.encoders.ahead import ahead


@given(st.lists(st.integers()), st.integers(0, 4), st.integers(1, 9))
def test_results_come_in_the_order_of_the_jobs(jobs, workers, depth):
    found = list(ahead(jobs, lambda job: job * 2, workers, depth))
    assert [(job, result, error) for job, result, error in found] == [(job, job * 2, None) for job in jobs]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failure_stands_beside_its_job_and_the_others_go_on(workers):
    found = list(ahead([1, 0, 2], lambda job: 2 // job, workers))
    assert [(done.job, done.result) for done in found] == [(1, 2), (0, None), (2, 1)]
    assert isinstance(found[1].error, ZeroDivisionError)
    assert found[0].error is found[2].error is None


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failure_of_the_jobs_iterator_is_raised(workers):
    def jobs():
        yield 1
        raise OSError("unreadable")

    with pytest.raises(OSError, match="unreadable"):
        list(ahead(jobs(), str, workers))


def test_no_more_jobs_are_begun_than_the_depth_allows():
    """While the first result is held, the iterator has been asked for `depth` jobs."""
    asked = []

    def jobs():
        for job in range(100):
            asked.append(job)
            yield job

    results = ahead(jobs(), str, workers=2, depth=5)
    next(results)
    assert len(asked) == 5
    next(results)
    assert len(asked) == 6
    results.close()


def test_work_runs_beside_the_taker():
    """The second job is done while the taker holds the first: it would wait for ever otherwise."""
    second = threading.Event()
    results = ahead([1, 2], lambda job: second.set() if job == 2 else None, workers=1, depth=2)
    next(results)
    assert second.wait(10)
    results.close()


def test_nothing_runs_on_when_the_taker_stops_early():
    begun = []
    results = ahead(range(1000), begun.append, workers=1, depth=50)
    next(results)
    results.close()
    count = len(begun)
    assert count <= 50
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]
    assert len(begun) == count


def test_without_workers_the_work_is_done_when_asked_for():
    begun = []
    results = ahead(range(5), begun.append, workers=0)
    next(results)
    assert begun == [0]
