"""Imports all that the package has to offer."""

import neuron_vit3d
import neuron_vit3d.cli


for name in neuron_vit3d.__all__:
    getattr(neuron_vit3d, name)
