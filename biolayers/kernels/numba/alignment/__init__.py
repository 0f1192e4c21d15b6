"""Kernels of alignment: sums over all paths row by row, and the best path."""
