"""The model as it is uploaded to the Hub: configuration, inflation, transformer, blocks, image processor, pipeline.

All modules of this folder but this one are uploaded: transformers copies modules that import each other.
"""

import lazy_loader


# Lazy, so that importing the configuration does not load the model and transformers' pipelines.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
