"""Teaches a model a few stacks of a lab's own, and says whether that was worth it."""

import lazy_loader


__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
