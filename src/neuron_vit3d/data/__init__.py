"""Makes training data: datasets of images with traces, and synthetic neurons whose trees are known."""

import lazy_loader


# Lazy, so that whoever wants one of these does not pay for the libraries of the others.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
