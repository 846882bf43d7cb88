"""Sends whole volumes through the model. Public names are imported on first use."""

import lazy_loader


# Lazy, so that the options can be read without importing torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
