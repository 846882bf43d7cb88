"""The command line: neuron-vit3d segment | trace | measure | evaluate | convert | view | report | train | ...

One module a command; `program` puts them together. `app` and `main` are imported on first use, so that a script which
needs one command or one check does not pay for the others.
"""

__all__ = ["app", "main"]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import program

    return getattr(program, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
