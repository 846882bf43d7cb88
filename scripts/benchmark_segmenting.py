"""Moved to benchmarks/segmenting.py."""

from moved import run


run("benchmarks/segmenting.py")
