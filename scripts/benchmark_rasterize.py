"""Moved to benchmarks/rasterize.py."""

from moved import run


if __name__ == "__main__":
    run("benchmarks/rasterize.py")
