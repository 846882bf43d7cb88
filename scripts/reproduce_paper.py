"""Moved to experiments/reproduce_paper.py."""

from moved import run


run("experiments/reproduce_paper.py")
