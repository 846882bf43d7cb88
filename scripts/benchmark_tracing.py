"""Moved to benchmarks/tracing.py."""

from moved import run


if __name__ == "__main__":
    run("benchmarks/tracing.py")
