"""Datasets of labelled records, and where their labels come from."""
