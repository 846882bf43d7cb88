"""The order of planes in the TIFF files of microscopes' programs that have tags of their own for it: Zeiss LSM,
Olympus FluoView, MetaMorph STK and ScanImage. tifffile reads those tags."""

import re

import numpy as np

from ..volume import VolumeError


_FLUOVIEW_AXES = {"X": "X", "Y": "Y", "Z": "Z", "T": "T", "TIME": "T", "CH": "C", "WAVELENGTH": "C"}
_SAVE_ANEW = "open the file in Fiji and save it as TIFF"


def microscope_axes(tiff, first, pages: int, name: str) -> tuple[str, tuple] | None:
    """The axes of a microscope's planes, slowest first, and their lengths; None where the file says nothing of them.

    Args:
        tiff: the open tifffile.TiffFile.
        first: its first full-size page.
        pages: number of pages like it.
        name: the file, for messages.

    Raises:
        VolumeError: several channels whose planes are in an order that is not known.
    """
    if tiff.is_lsm:
        axes = _lsm_axes(tiff.lsm_metadata)
    elif tiff.is_fluoview:
        axes = _fluoview_axes(tiff.fluoview_metadata)
    elif tiff.is_stk and pages == 1:
        return _stk_axes(tiff.stk_metadata, name)
    elif first.is_scanimage:
        axes = _scanimage_axes(f"{first.software}\n{first.description}", pages, name)
    else:
        return None
    axes = {axis: length for axis, length in axes.items() if length > 1}
    if set(axes) <= {"Z"}:  # those slices that are there, for the microscope may have been stopped early
        return None
    return "".join(axes), tuple(axes.values())


def _lsm_axes(metadata: dict) -> dict[str, int]:
    """Channels are the samples of a plane; P and M are places of the stage."""
    keys = {"M": "DimensionM", "P": "DimensionP", "T": "DimensionTime", "Z": "DimensionZ"}
    return {axis: int(metadata.get(key, 1)) for axis, key in keys.items()}


def _fluoview_axes(metadata: dict) -> dict[str, int]:
    sizes = {one[0].upper(): int(one[1]) for one in metadata.get("Dimensions", ())[::-1] if one[1] > 1}
    return {_FLUOVIEW_AXES.get(name, "R"): length for name, length in sizes.items() if name not in ("X", "Y")}


def _stk_axes(metadata: dict, name: str) -> tuple[str, tuple]:
    """All planes lie behind a single page."""
    wavelengths, heights, times = (
        len(np.unique(metadata.get(key, 0))) for key in ("Wavelengths", "AbsoluteZ", "TimeCreated")
    )
    if wavelengths > 1:
        raise VolumeError(
            f"{name}: expected a MetaMorph stack of one channel, got planes of {wavelengths} wavelengths; {_SAVE_ANEW}"
        )
    is_film = times > 1 and heights == 1 and not np.any(metadata.get("ZDistance", 0))
    return "T" if is_film else "Z", (int(metadata["NumberPlanes"]),)


def _scanimage_axes(text: str, pages: int, name: str) -> dict[str, int]:
    """From the settings in the tags Software or ImageDescription; channels run fastest, then frames of a slice."""

    def setting(key: str) -> str:
        found = re.search(rf"\b{key}\s*=\s*(.*)", text)
        return found[1].strip() if found else ""

    def number(key: str) -> float:
        try:
            return max(1.0, float(setting(key)))
        except ValueError:
            return 1.0

    early = max(len(re.findall(r"\d+", setting(r"SI[45]\.channelsSave"))), number(r"state\.acq\.numberOfChannelsSave"))
    if early > 1:
        raise VolumeError(f"{name}: expected one channel of an early ScanImage, got {early:.0f}; {_SAVE_ANEW}")
    channels = max(1, len(re.findall(r"\d+", setting(r"SI\.hChannels\.channelSave"))))
    frames = number(r"SI\.hStackManager\.framesPerSlice") / number(r"SI\.hScan2D\.logAverageFactor")
    frames = int(min(max(1, frames), max(1, pages // channels)))  # Inf: as many as come
    slices = max(1, pages // (channels * frames))
    stated = number(r"SI\.hStackManager\.(?:actualN|n)umSlices")
    volumes = max(1, int(slices / stated)) if stated > 1 else 1
    return {"T": volumes * frames, "Z": slices // volumes, "C": channels}
