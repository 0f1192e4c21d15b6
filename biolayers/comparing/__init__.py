"""Sequences held against each other: splits that keep like with like, and what leaks."""
