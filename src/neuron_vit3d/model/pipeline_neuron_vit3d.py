"""The pipeline "neuron-segmentation": turns a volume into scores, a mask, and the traced tree as an SWC text.

pipe = pipeline("neuron-segmentation", model="user/checkpoint", trust_remote_code=True)
pipe(volume)["scores"]                    # volume: array (slices, height, width), or a file's path
"""

import importlib
import importlib.util
import os
import types

import numpy as np
import torch
from transformers.pipelines.base import ChunkPipeline
from transformers.utils import logging

from .blocks import iterate_blocks, stitch
from .image_processing_neuron_vit3d import scores_from_logits


logger = logging.get_logger(__name__)

_PACKAGE = "neuron_vit3d"  # if installed, it reads microscopy files and traces


class NeuronSegmentationPipeline(ChunkPipeline):
    """Segments volumes block by block; traces them where the package `neuron_vit3d` is installed.

    Call it with one volume or a list of them: arrays (slices, height, width), or with channels first, a `Volume`, or
    paths. It always reads `.npy` files, and microscopy files where the package is installed. A volume and the scores
    of all its blocks are in memory at once; `neuron_vit3d.segment` needs memory for a few slices only.

    Args (of the pipeline or of a call):
        batch_size: blocks that go through the model at once.
        threshold (`float`, *optional*): scores at least this high are neuron. By default it follows the noise of these
            scores if the package is installed, and is 0.5 otherwise.
        channel (`int`, *optional*): the channel to segment, if the image has several and the model takes one.
        trace (`bool`, *optional*): whether to trace the mask; by default if the package is installed.

    Returns (for each volume):
        `{"scores": float32 (slices, height, width) in [0, 1], "mask": bool of the same shape}`, and `"swc"` if the
        mask was traced: the text of an SWC file, coordinates in voxels; None if the mask holds nothing to trace.

    Raises:
        ValueError: the input is no volume, has several channels and none is chosen, or the image processor belongs to
            another model.
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False
    _load_video_processor = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.image_processor is None:
            raise ValueError("the neuron-segmentation pipeline needs the model's image processor: image_processor=...")
        if self.model.config.model_type != "neuron_vit3d":
            raise ValueError(f"expected a neuron_vit3d model, got one of type {self.model.config.model_type!r}")
        if not hasattr(self.image_processor, "fit_to"):  # not by class: that differs if a checkpoint brings the code
            raise ValueError(
                f"expected a NeuronViT3DImageProcessor, got a {type(self.image_processor).__name__}: that of another "
                "model"
            )
        self.image_processor.fit_to(self.model.config)
        if self.device.type == "cpu" and self.model.dtype == torch.float16:
            self.model.float()  # checkpoints are stored in half precision, which CPUs only emulate

    def __call__(self, inputs, **options):
        """Segments one volume, or several one by one: blocks of volumes of different sizes cannot share a batch."""
        if isinstance(inputs, list):
            return [super(NeuronSegmentationPipeline, self).__call__(volume, **options) for volume in inputs]
        if isinstance(inputs, types.GeneratorType | torch.utils.data.Dataset):
            one = super().__call__
            return (one(volume, **options) for volume in inputs)
        return super().__call__(inputs, **options)

    def _sanitize_parameters(self, channel=None, threshold=None, trace=None, **unknown):
        if unknown:
            raise ValueError(f"the neuron-segmentation pipeline has no option {sorted(unknown)[0]!r}")
        if threshold is not None and not 0 < threshold <= 1:
            raise ValueError(f"threshold must be above 0 and at most 1; got {threshold}")
        if trace and _package() is None:
            raise ValueError(f"trace=True needs the package {_PACKAGE}: pip install {_PACKAGE}")
        preprocess = {} if channel is None else {"channel": channel}
        postprocess = {"threshold": threshold, "trace": trace}
        return preprocess, {}, {key: value for key, value in postprocess.items() if value is not None}

    def preprocess(self, volume, channel: int | None = None):
        array, voxel_size = _array_of(volume)
        if channel is not None:
            if array.ndim != 4 or not 0 <= channel < len(array):
                raise ValueError(f"channel {channel} cannot be chosen in a volume of shape {array.shape}")
            array = array[channel]
        elif array.ndim == 4 and len(array) > 1 and self.image_processor.num_channels == 1:
            raise ValueError(f"the volume has {len(array)} channels: choose one with channel=0 .. {len(array) - 1}")
        processor = self.image_processor
        array = processor.with_channels(array)
        if array.min() == array.max():
            raise ValueError(f"expected an image, got the value {array.flat[0]} in every voxel")
        intensities, grid = processor.intensity_range(array), processor.grid(array.shape[1:])
        last = len(grid) - 1
        for index, block in enumerate(iterate_blocks(array, grid)):
            pixel_values = processor.standardise(processor.scale(block, intensities))
            yield {
                "pixel_values": torch.from_numpy(pixel_values)[None],
                "is_last": index == last,
                "volume": (array.shape[1:], voxel_size),
            }

    def _forward(self, inputs):
        logits = self.model(inputs["pixel_values"]).logits
        return {"is_last": inputs["is_last"], "volume": inputs["volume"], "scores": scores_from_logits(logits)}

    def postprocess(self, blocks, threshold: float | None = None, trace: bool | None = None):
        shape, voxel_size = blocks[0]["volume"]
        predictions = np.concatenate([block["scores"].numpy() for block in blocks])[:, None]
        scores = stitch(predictions, self.image_processor.grid(shape))[0].clip(0.0, 1.0)
        package = _package()
        if threshold is None:
            threshold = 0.5 if package is None else package.threshold_from_noise(scores)
        result = {"scores": scores, "mask": scores >= threshold}
        if package is not None and trace is not False:
            try:
                tree = package.trace(package.Volume(scores, voxel_size), threshold=threshold)
                result["swc"] = tree.to_text()
            except package.TraceError as error:
                logger.warning(f"no tree was traced: {error}")
                result["swc"] = None
        return result


def _array_of(volume) -> tuple[np.ndarray, tuple[float, float, float] | None]:
    """Returns array and voxel size (None if unknown) of an array, a tensor, a `Volume` or a file."""
    if isinstance(volume, str | os.PathLike):
        package = _package()
        if package is not None:
            volume = package.read_volume(volume)
        elif str(volume).endswith(".npy"):
            volume = np.load(volume, allow_pickle=False)
        else:
            raise ValueError(
                f"{volume}: without the package {_PACKAGE} only .npy files can be read: pip install {_PACKAGE}, or "
                "pass an array (slices, height, width)"
            )
    return np.asarray(getattr(volume, "array", volume)), getattr(volume, "voxel_size", None)


def _package():
    """Returns the installed package; None if there is only the code of this checkpoint."""
    return importlib.import_module(_PACKAGE) if importlib.util.find_spec(_PACKAGE) else None
