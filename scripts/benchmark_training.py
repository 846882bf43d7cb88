"""Moved to benchmarks/training.py."""

from moved import run


if __name__ == "__main__":
    run("benchmarks/training.py")
