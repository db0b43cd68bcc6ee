"""Benchmarks: each prints ratios of one run and asserts nothing."""
