"""Whole volumes through the model; what is named here is imported on first use."""

from importlib import import_module


_HOMES = {
    "DEFAULT_CHECKPOINT": "segmenter",
    "SegmentOptions": "options",
    "Segmenter": "segmenter",
    "load_checkpoint": "segmenter",
    "segment": "segmenter",
    "segment_large": "large",
}

__all__ = ["DEFAULT_CHECKPOINT", "SegmentOptions", "Segmenter", "load_checkpoint", "segment", "segment_large"]


def __getattr__(name: str):
    # Lazy: options are known before torch has been imported.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
