"""Moved to benchmarks/loader.py."""

from moved import run


run("benchmarks/loader.py")
