"""Trees of a neuron: SWC files, tree to mask (`rasterize`), tree against tree (`tree_distance`)."""

from importlib import import_module


_HOMES = {
    "Tree": "swc",
    "SWCError": "swc",
    "check_tree": "soundness",
    "points_along": "geometry",
    "read_swc": "swc",
    "rasterize": "raster",
    "tree_distance": "distance",
}

__all__ = [
    "SWCError",
    "Tree",
    "check_tree",
    "points_along",
    "rasterize",
    "read_swc",
    "tree_distance",
]


def __getattr__(name: str):
    # Lazy, so that reading an SWC file does not pay for scipy.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
