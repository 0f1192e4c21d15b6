"""Circuits with noise: channels, exact density matrices, and trajectories."""

from qlayers.noise.models import with_noise

__all__ = ["with_noise"]
