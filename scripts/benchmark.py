"""Moved to benchmarks/basics.py."""

from moved import run


if __name__ == "__main__":
    run("benchmarks/basics.py")
