"""Real Fourier transforms of a line of channels at once, for convolutions with long kernels."""
