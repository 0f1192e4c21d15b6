"""Batches: what a dataset promises (`batches`), in which order they come, and how loops get them."""
