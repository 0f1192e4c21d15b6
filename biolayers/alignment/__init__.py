"""Alignment of pairs of sequences as a differentiable score: sums over all alignments, or the best one."""

from biolayers.alignment.aligning import align, expected_alignment
from biolayers.alignment.paths import best_alignments
from biolayers.alignment.substitution import pair_scores, substitution_matrix

__all__ = ["align", "best_alignments", "expected_alignment", "pair_scores", "substitution_matrix"]
