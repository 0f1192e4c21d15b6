"""Kernels of this package, one folder per provider, one file per task."""
