"""Ready-made sequence classifiers, built by name so that a checkpoint can say what it holds."""

from biolayers.models.build import MODELS, build, heads
from biolayers.models.cnn import SequenceCNN

__all__ = ["MODELS", "SequenceCNN", "build", "heads"]
