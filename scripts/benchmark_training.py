"""Moved to benchmarks/training.py."""

from moved import run


run("benchmarks/training.py")
