"""Motifs: read, compare and draw them, and find every site that scores high enough, with exact p-values."""
