"""Traces scores or a mask to a tree (`trace`, `trace_neurons`), and finds a threshold (`threshold_from_noise`)."""

import lazy_loader


# Lazy: a module of this folder does not pay for the others.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
