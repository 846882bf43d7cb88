"""3D images on disk <-> `Volume`: an array with axes z y x and the size of a voxel in micrometres."""

import lazy_loader


# Lazy, so that the command line can tell what formats there are before it imports numpy.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
