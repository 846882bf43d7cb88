"""Moved to benchmarks/alignment.py."""

from moved import run


run("benchmarks/alignment.py")
