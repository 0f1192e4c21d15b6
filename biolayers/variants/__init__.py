"""Variants: VCF in; pairs of windows, haplotypes, and what a model makes of them."""
