"""Moved to benchmarks/tracing.py."""

from moved import run


run("benchmarks/tracing.py")
