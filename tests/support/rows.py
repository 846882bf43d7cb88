"""Rows of prepared datasets."""

import numpy as np

from neuron_vit3d.data.dataset_files import features


FEATURES = features("volumes")


def volume_row(neuron, name: str, dtype: str = "uint8") -> dict:
    """A row of "volumes" that holds a synthetic neuron."""
    voxels = neuron.volume.array.astype(np.dtype(dtype).newbyteorder("<"))
    return dict.fromkeys(FEATURES) | {
        "neuron_id": name,
        "image": [plane.tobytes() for plane in voxels],
        "shape": list(voxels.shape),
        "dtype": dtype,
        "swc": neuron.tree.to_text(),
        "signal_level": 60.0,
        "lab": "lab " + name[-1],
    }
