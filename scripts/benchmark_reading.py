"""Moved to benchmarks/reading.py."""

from moved import run


if __name__ == "__main__":
    run("benchmarks/reading.py")
