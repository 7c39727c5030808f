"""Measurements that print a table and write JSON beside it; each runs with `python -m benchmarks.NAME`."""
