"""Items that are made ready ahead come in order, bounded in number, with their errors."""

import threading
import time

import pytest

from trajectories.replay.prefetch import Prefetch


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_items_come_in_order_and_the_thread_ends():
    assert list(Prefetch(iter(range(100)), depth=3)) == list(range(100))
    assert not threads()


def test_no_more_than_the_depth_waits():
    made = []

    def make():
        for item in range(50):
            made.append(item)
            yield item

    items = iter(Prefetch(make(), depth=2))
    assert next(items) == 0
    time.sleep(0.3)
    assert len(made) <= 1 + 2 + 1  # taken, waiting, in hand
    items.close()
    assert not threads()


def test_an_error_comes_where_it_arose():
    def make():
        yield 1
        raise OSError("the disk is gone")

    items = iter(Prefetch(make(), depth=4))
    assert next(items) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)
    assert not threads()


def test_leaving_early_ends_the_thread():
    for item in Prefetch(iter(range(10**9)), depth=2):
        if item == 5:
            break
    deadline = time.monotonic() + 10
    while threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not threads()
