"""Doors beside the command line, each with libraries of its own, which are imported where it is opened."""
