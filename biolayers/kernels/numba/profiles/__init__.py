"""Numba kernels of the profile-HMM ops."""
