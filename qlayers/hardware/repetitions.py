"""Which time it is that a circuit runs: a training that starts again counts again from 0, and so replays."""

import heapq
import threading
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable


class Repetitions:
    """Counts, for each key, how often it was taken. Numbers given back are taken again first.

    >>> repetitions = Repetitions()
    >>> [repetitions.take("circuit") for _ in range(3)]
    [0, 1, 2]
    >>> repetitions.give_back([("circuit", 1)])
    >>> [repetitions.take("circuit") for _ in range(2)]
    [1, 3]
    """

    def __init__(self):
        self._next: Counter[Hashable] = Counter()
        self._returned: dict[Hashable, list[int]] = defaultdict(list)
        self._lock = threading.Lock()

    def take(self, key: Hashable) -> int:
        """The next number of the key."""
        with self._lock:
            if returned := self._returned.get(key):
                return heapq.heappop(returned)
            self._next[key] += 1
            return self._next[key] - 1

    def peek(self, key: Hashable, ahead: int = 0) -> int:
        """The number that the key gets when it is taken, after `ahead` others; nothing is taken."""
        with self._lock:
            returned = sorted(self._returned.get(key, ()))
            return returned[ahead] if ahead < len(returned) else self._next[key] + ahead - len(returned)

    def give_back(self, taken: Iterable[tuple[Hashable, int]]) -> None:
        """Numbers whose circuits have not been used, since a call failed or was interrupted."""
        with self._lock:
            for key, number in taken:
                heapq.heappush(self._returned[key], number)
