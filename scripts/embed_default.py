"""Moved to experiments/embed_default.py."""

from moved import run


if __name__ == "__main__":
    run("experiments/embed_default.py")
