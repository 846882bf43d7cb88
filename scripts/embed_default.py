"""Moved to experiments/embed_default.py."""

from moved import run


run("experiments/embed_default.py")
