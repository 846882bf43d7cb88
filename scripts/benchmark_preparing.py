"""Moved to benchmarks/preparing.py."""

from moved import run


run("benchmarks/preparing.py")
