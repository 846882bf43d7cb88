"""Moved to benchmarks/model.py."""

from moved import run


if __name__ == "__main__":
    run("benchmarks/model.py")
