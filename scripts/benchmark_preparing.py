"""Moved to benchmarks/preparing.py."""

from moved import run


if __name__ == "__main__":
    run("benchmarks/preparing.py")
