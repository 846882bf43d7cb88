"""The Space on Hugging Face: what `neuron-vit3d app` opens, with limits for a machine of two processors."""

from neuron_vit3d.apps.space.page import launch
from neuron_vit3d.apps.space.work import Limits
from neuron_vit3d.inference import Segmenter


if __name__ == "__main__":
    launch(Segmenter(), Limits(), host="0.0.0.0", port=7860)
