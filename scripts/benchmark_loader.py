"""Moved to benchmarks/loader.py."""

from moved import run


if __name__ == "__main__":
    run("benchmarks/loader.py")
