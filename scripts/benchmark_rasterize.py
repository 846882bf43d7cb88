"""Moved to benchmarks/rasterize.py."""

from moved import run


run("benchmarks/rasterize.py")
