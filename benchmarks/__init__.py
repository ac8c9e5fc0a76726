"""Benchmarks of adapterhub: ratios to the bare base model, and counters without noise."""
