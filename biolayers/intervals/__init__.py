"""Genomic intervals: read, changed, compared, and written."""

from biolayers.intervals.errors import IntervalError
from biolayers.intervals.leaks import OverlapLeakage, overlap_leakage
from biolayers.intervals.table import Change, Interval, Intervals

__all__ = ["Change", "Interval", "IntervalError", "Intervals", "OverlapLeakage", "overlap_leakage"]
