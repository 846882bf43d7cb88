"""Files that hold trees: a module for each format, listed in registry.py."""
