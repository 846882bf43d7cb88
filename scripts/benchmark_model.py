"""Moved to benchmarks/model.py."""

from moved import run


run("benchmarks/model.py")
