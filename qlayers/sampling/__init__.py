"""Finite shots: measurement bases, draws from exact probabilities, and gradients that need no state."""

from qlayers.sampling.methods import Spsa

__all__ = ["Spsa"]
