"""Whether helpers make work quicker that comes again and again: measured, as it goes.

Two threads are not always quicker than one. Another process may want the second processor, so that a helper
loses it in the middle of a piece; both threads may have been put on one processor, and OpenMP's do not give
way to each other; or calls are so far apart that helpers sleep. No rule foresees all that; the clock tells.
"""

_TRIAL = (
    4  # calls in a row with the other number of threads; the first, which wakes the helpers, is not heard
)
_SHORTEST, _LONGEST = 32, 1024  # calls between two trials: more, the longer nothing changes
_WEIGHT = 0.25  # of the latest call in the mean
_OUTLIER = 4.0  # a call that took so many times the mean counts for no more
_STALL = 2_000_000  # ns: a call that took an outlier and so much more stood still
_STALLS = 3  # such calls in a row: a trial is due; within a trial one ends it


class Pace:
    """How long one kind of work takes with helpers, and without.

    Example:
        >>> pace = Pace()
        >>> for _ in range(100):
        ...     pace.hear(30_000 if pace.helped() else 20_000)
        >>> pace.helped()
        False
    """

    __slots__ = ("_best", "_calls", "_interval", "_means", "_stalls", "_trial", "_unheard")

    def __init__(self) -> None:
        self._means = [0.0, 0.0]  # ns alone, and with helpers; 0: not known yet
        self._best = True
        self._trial, self._calls, self._unheard = False, _TRIAL, 1
        self._interval, self._stalls = _SHORTEST, 0

    def helped(self) -> bool:
        """Whether the next call should have helpers."""
        return self._best != self._trial

    def hear(self, ns: int) -> None:
        """Take note of how long the call took for which `helped` was asked."""
        which = self.helped()
        mean = self._means[which]
        usual = mean or self._means[not which]
        stalled = bool(usual) and ns > _OUTLIER * usual + _STALL
        self._stalls = self._stalls + 1 if stalled else 0
        if stalled and self._trial:
            self._means[which] = float(ns)
        elif self._unheard:
            self._unheard -= 1
        else:
            self._means[which] = mean + _WEIGHT * (min(ns, _OUTLIER * mean) - mean) if mean else float(ns)
        self._calls -= 1  # several threads may count it down at once
        if self._calls <= 0 or self._stalls >= (1 if self._trial else _STALLS):
            self._turn()

    def _turn(self) -> None:
        """A trial ends, or begins."""
        self._stalls = 0
        if self._trial:
            alone, together = self._means
            best = together < alone
            same = best == self._best
            self._interval = min(2 * self._interval, _LONGEST) if same else _SHORTEST
            self._best, self._trial, self._calls = best, False, self._interval
            self._unheard = int(best and not same)
        else:
            self._means[not self._best] = 0.0  # what was true at the last trial may not be any more
            self._trial, self._calls, self._unheard = True, _TRIAL, 1
