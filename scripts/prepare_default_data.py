"""Moved to experiments/prepare_default_data.py."""

from moved import run


if __name__ == "__main__":
    run("experiments/prepare_default_data.py")
