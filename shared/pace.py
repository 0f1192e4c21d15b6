"""Whether helpers make work quicker that comes again and again: measured, as it goes.

Two threads are not always quicker than one. Another process may want the second processor, so that a helper
loses it in the middle of a piece; both threads may have been put on one processor; or calls are so far apart
that helpers sleep. No rule foresees all that, but the clock tells.
"""

_TRIAL = (
    4  # calls in a row with the other number of threads; the first, to which helpers wake up, is not heard
)
_SHORTEST, _LONGEST = 32, 1024  # calls between two trials: more, the longer nothing changes
_WEIGHT = 0.25  # of the latest call in the mean
_OUTLIER = 4.0  # a call that took so many times the mean counts for no more


class Pace:
    """How long one kind of work takes with helpers, and without.

    Example:
        >>> pace = Pace()
        >>> for _ in range(100):
        ...     pace.hear(30_000 if pace.helped() else 20_000)
        >>> pace.helped()
        False
    """

    __slots__ = ("_best", "_calls", "_interval", "_means", "_trial", "_unheard")

    def __init__(self) -> None:
        self._means = [0.0, 0.0]  # ns alone, and with helpers; 0: not known yet
        self._best = True
        self._trial, self._calls, self._unheard = False, _TRIAL, 1
        self._interval = _SHORTEST

    def helped(self) -> bool:
        """Whether the next call should have helpers."""
        return self._best != self._trial

    def hear(self, ns: int) -> None:
        """Take note of how long the call took for which `helped` was asked."""
        if self._unheard:
            self._unheard -= 1
        else:
            which = self.helped()
            mean = self._means[which]
            self._means[which] = mean + _WEIGHT * (min(ns, _OUTLIER * mean) - mean) if mean else float(ns)
        self._calls -= 1
        if self._calls == 0:
            self._turn()

    def _turn(self) -> None:
        """A trial ends, or begins."""
        if self._trial:
            alone, together = self._means
            best = together < alone
            same = best == self._best
            self._interval = min(2 * self._interval, _LONGEST) if same else _SHORTEST
            self._best, self._trial, self._calls = best, False, self._interval
            self._unheard = int(best and not same)
        else:
            self._trial, self._calls, self._unheard = True, _TRIAL, 1
