"""Scores or a mask become a tree: `trace`, `trace_neurons`; and where a stack's threshold lies:
`threshold_from_noise`."""

import lazy_loader


# Lazy: a module of this folder does not pay for the others.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
