"""Moved to benchmarks/basics.py."""

from moved import run


run("benchmarks/basics.py")
