"""Moved to benchmarks/segmenting.py."""

from moved import run


if __name__ == "__main__":
    run("benchmarks/segmenting.py")
