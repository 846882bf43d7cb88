"""Moved to benchmarks/reading.py."""

from moved import run


run("benchmarks/reading.py")
