"""Trees of a neuron: SWC files, tree to mask (`rasterize`), tree against tree (`tree_distance`)."""

import lazy_loader


# Lazy, so that reading an SWC file does not pay for scipy.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
