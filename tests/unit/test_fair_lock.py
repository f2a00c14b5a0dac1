"""A lock goes to who has waited longest."""

import threading
import time

from storage.fair_lock import FairLock
from tests.peers import wait_until

MANY = 20


def _waits(lock: FairLock, came: list[int], number: int) -> threading.Thread:
    """A thread that waits for the lock, notes that it came, and gives it on."""

    def take() -> None:
        assert lock.acquire(60)
        came.append(number)
        lock.release()

    before = lock.waiting
    thread = threading.Thread(target=take)
    thread.start()
    wait_until(lambda: lock.waiting > before)
    return thread


def test_it_is_handed_on_in_the_order_of_asking() -> None:
    lock, came = FairLock(), []
    assert lock.acquire(0)
    threads = [_waits(lock, came, number) for number in range(MANY)]
    lock.release()
    # Who had it last is behind all who wait.
    assert lock.acquire(60)
    assert came == list(range(MANY))
    lock.release()
    for thread in threads:
        thread.join()


def test_who_gives_up_is_passed_over() -> None:
    lock, came = FairLock(), []
    assert lock.acquire(0)
    assert not lock.acquire(0.01)
    assert lock.waiting == 0
    thread = _waits(lock, came, 1)
    lock.release()
    thread.join()
    assert came == [1]
    assert lock.acquire(0)


def test_who_waits_is_patient_while_others_have_their_turn() -> None:
    lock = FairLock()
    assert lock.acquire(0)
    outcome: list[bool] = []
    last = threading.Thread(target=lambda: outcome.append(lock.acquire(0.5)))
    first = threading.Thread(target=lambda: (lock.acquire(60), time.sleep(0.3), lock.release()))
    first.start()
    wait_until(lambda: lock.waiting == 1)
    last.start()
    wait_until(lambda: lock.waiting == 2)
    time.sleep(0.3)
    lock.release()
    first.join()
    last.join()
    assert outcome == [True]


def test_only_one_thread_holds_it() -> None:
    lock, inside, most = FairLock(), [], []

    def work() -> None:
        for _ in range(200):
            assert lock.acquire(60)
            inside.append(1)
            most.append(len(inside))
            inside.pop()
            lock.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (max(most), len(most)) == (1, 1600)
