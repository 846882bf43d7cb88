"""Moved to experiments/reproduce_paper.py."""

from moved import run


if __name__ == "__main__":
    run("experiments/reproduce_paper.py")
