"""Benchmarks: each reports figures in ratio to a baseline measured in the same run."""
