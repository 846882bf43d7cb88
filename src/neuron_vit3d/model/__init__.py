"""The model, as it travels to the Hub: configuration, inflation, transformer, blocks, image processor, pipeline.

All modules of this folder travel, but for this one: transformers copies those that import each other.
"""

import lazy_loader


# Lazy, so that the configuration does not pay for the model and for transformers' pipelines.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
