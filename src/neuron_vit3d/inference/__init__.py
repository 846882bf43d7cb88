"""Sends whole volumes through the model; what is named here is imported on first use."""

import lazy_loader


# Lazy: options are known before torch has been imported.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
