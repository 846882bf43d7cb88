"""Scores or a mask become a tree: `trace`, `trace_neurons`; and where a stack's threshold lies: `threshold_from_noise`."""

from importlib import import_module


_HOMES = {
    "threshold_from_noise": "noise",
    "trace": "tracer",
    "trace_neurons": "tracer",
    "TraceError": "options",
    "TraceOptions": "options",
}

__all__ = ["TraceError", "TraceOptions", "threshold_from_noise", "trace", "trace_neurons"]


def __getattr__(name: str):
    # Lazy: a module of this folder does not pay for the others.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
