"""Says things in napari's notifications: one sentence, without a traceback."""


def tell(sentence: str) -> None:
    """Shows what there is to know."""
    from napari.utils.notifications import show_info

    show_info(sentence)


def tell_error(error: BaseException | str, name: str = "") -> None:
    """Shows what is wrong.

    Args:
        error: what was raised, whose message is a sentence, or the sentence.
        name: the file that it is about, for errors that do not say it.
    """
    from napari.utils.notifications import show_error

    show_error(sentence_of(error, name))


def sentence_of(error: BaseException | str, name: str = "") -> str:
    """One line for an error: its own, or what the system said of a file, or that memory was not enough."""
    if isinstance(error, str):
        return error
    about = f"{name}: " if name else ""
    if isinstance(error, MemoryError):
        return f"{about}there is not enough memory; draw a box around a part of the image"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or name or 'the disk'}: {error.strerror}"
    words = " ".join(str(error).split())
    return words or f"{about}{type(error).__name__}"
