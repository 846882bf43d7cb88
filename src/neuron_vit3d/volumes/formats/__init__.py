"""Image formats: one module each, listed in `registry`."""
