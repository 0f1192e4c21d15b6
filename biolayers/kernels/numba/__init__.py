"""CPU kernels in Numba: serial, without the GIL; the callers spread rows with `shared.threads.parallel`."""
