"""Moved to benchmarks/alignment.py."""

from moved import run


if __name__ == "__main__":
    run("benchmarks/alignment.py")
