"""Training from Python: `neuron_vit3d.train`."""

from pathlib import Path

from .config import TrainingConfig, refuse_unknown


def train(config: TrainingConfig | None = None, **options) -> Path:
    """Fine-tunes a model on images with traces, as `neuron-vit3d train` does.

    The same call continues a run that was interrupted.

    Args:
        config: all options of the run; or None, and the options by name.
        options: fields of [`TrainingConfig`]; lengths are in voxels. `base_model="default"` is the embedded
            checkpoint.

    Returns:
        The output folder, which `from_pretrained` loads.

    Raises:
        TypeError: `output_dir` is missing, or there are both a config and options.
        TrainingError (a ValueError): an option does not exist; or the run cannot start or go on.
        DataError, VolumeError, SWCError (ValueErrors): the data cannot be used.

    Example:
        ```python
        neuron_vit3d.train(train_data=["neurons"], base_model="default", output_dir="runs/first", max_steps=500)
        ```
    """
    if config is not None and options:
        raise TypeError(f"expected a config or options, got both: config and {', '.join(sorted(options))}")
    for name in options:
        refuse_unknown(name)
    if config is None:
        config = TrainingConfig(**options)
    elif not isinstance(config, TrainingConfig):
        raise TypeError(f"config: expected a TrainingConfig, got {type(config).__name__}")
    from .trainer import train as fit

    return fit(config)
