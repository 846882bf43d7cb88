"""Moved to experiments/prepare_default_data.py."""

from moved import run


run("experiments/prepare_default_data.py")
