"""neuron_vit3d: segment and trace neurons in 3D microscopy with 2D vision transformers inflated to 3D.

Importing it makes the configuration, the models, the image processor and the pipeline known to transformers. The
public names stand in `__init__.pyi` and are imported on first use.
"""

import threading

import lazy_loader

from .auto_classes import register


__version__ = "0.1.0"

_lazily, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# One thread at a time imports: transformers does not bear to be imported by two at once.
_importing = threading.RLock()


def __getattr__(name: str):
    with _importing:
        return _lazily(name)


register()
