"""Checks that every way to load a checkpoint shares: only safetensors, and one clear error for whatever goes wrong."""

import contextlib
import json
import os
from pathlib import Path

from huggingface_hub import HfApi, errors
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import cached_file, logging

from .backbones import Family


logger = logging.get_logger(__name__)

_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# Arguments of `from_pretrained` that say where files are looked for.
_WHERE = ("revision", "token", "cache_dir", "subfolder", "local_files_only", "force_download", "proxies")


# Errors that a configuration with impossible values raises.
BAD_CONFIG = (ValueError, TypeError, KeyError, AttributeError, errors.StrictDataclassError)


class CheckpointError(OSError):
    """A checkpoint cannot be found, reached or read. The message is one line: which checkpoint, and what to do."""


@contextlib.contextmanager
def one_clear_error(name: str | os.PathLike | None):
    """Turns the errors of transformers and huggingface_hub about the checkpoint `name` into one `CheckpointError`."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        reason = _reason(error)
        if reason is None and not isinstance(error, OSError):
            raise
        raise CheckpointError(f"{name}: {reason or ' '.join(str(error).split())}") from error


def refuse_pickles(name: str | os.PathLike, **options) -> None:
    """Raises CheckpointError if `name` has no weights in safetensors, before anything else is looked for.

    transformers would unpickle other weights, or ask a service on the Hub to convert them and to open a pull request.

    Args:
        name: folder or name on the Hub.
        options: arguments of `from_pretrained`; those that say where to look are used.
    """
    where = _where(options)
    variant = f".{options['variant']}" if options.get("variant") else ""
    weights = (f"model{variant}.safetensors", f"model.safetensors.index{variant}.json")
    unreachable = None
    for file in weights:
        try:
            if cached_file(name, file, **where):
                return
        except OSError as error:
            if _reason(error) is not None:  # something other than a missing file
                unreachable = unreachable or error
                where["local_files_only"] = True  # the cache may still hold the other
    if unreachable is not None:
        raise unreachable
    pickle = next((file for file in _PICKLES if _exists(name, file, where)), None)
    if pickle is None:
        raise CheckpointError(f"{name}: has no weights: expected {' or '.join(weights)}")
    raise CheckpointError(
        f"{name}: has its weights in {pickle} only; pickled weights can run code and are not opened, safetensors are. "
        f"Where you trust their author, convert them: {conversion_line(name)}"
    )


def read_config(name: str | os.PathLike, expected: str, **options) -> PreTrainedConfig:
    """Reads the configuration of any model of transformers; code that comes with it is not run, and no question asked.

    Raises ValueError, which names what was `expected`, if there is none, and CheckpointError if it cannot be found,
    reached or read.
    """
    with one_clear_error(name):
        try:
            return AutoConfig.from_pretrained(name, trust_remote_code=False, **_where(options))
        except BAD_CONFIG as error:
            raise ValueError(f"{name}: expected {expected}: {' '.join(str(error).split())}") from error


def check_config(name: str | os.PathLike, config_class, **options) -> None:
    """Raises ValueError, in one line, if `config_class` does not accept the config.json of `name`."""
    where = _where(options)
    with one_clear_error(name):
        values, _ = PreTrainedConfig.get_config_dict(name, **where)
        kind = values.get("model_type")
        if kind != config_class.model_type:
            raise ValueError(
                f"{name}: expected a {config_class.model_type} checkpoint, found a model of type {kind!r} (a 2D "
                "vision transformer becomes one by from_pretrained_2d and training)"
            )
        try:
            # Not by `from_dict`: it warns about unknown fields, and so does the loading that follows.
            others = config_class.other_fields(values)
            config_class(**{key: value for key, value in values.items() if key not in others})
        except BAD_CONFIG as error:
            raise ValueError(f"{name}: {' '.join(str(error).split())}") from error


def check_loaded(name: str | os.PathLike, config, info: dict, *, ignore_mismatched_sizes: bool) -> None:
    """Raises ValueError, in one line, if weights contradict the configuration.

    Logs which weights are new and which are left out.

    Args:
        config: the model's [`NeuronViT3DConfig`].
        info: the loading info that transformers' `from_pretrained` returns with `output_loading_info=True`.
    """
    unfit = f"{name}: its weights do not fit its config.json"
    if info["mismatched_keys"] and not ignore_mismatched_sizes:
        shapes = {key: (tuple(found), tuple(expected)) for key, found, expected in info["mismatched_keys"]}
        for key, (found, expected) in shapes.items():
            embeds = key.endswith(("patch_embeddings.projection.weight", "patch_embeddings.weight"))
            if embeds and found[:1] + found[2:] == expected[:1] + expected[2:]:
                raise ValueError(
                    f"{name}: its config.json says num_slices = {config.num_slices} of num_channels = "
                    f"{config.num_channels}, so {expected[1]} planes a block; its weights are for {found[1]}"
                )
        key, (found, expected) = min(shapes.items())
        raise ValueError(f"{unfit}: {len(shapes)} mismatched, first {key} (expected {expected}, found {found})")
    missing = sorted(info["missing_keys"])
    of_the_encoder = (key for key in missing if "backbone." in key)
    if lost := [key for key in of_the_encoder if not config.family.is_unused(key.partition("backbone.")[2])]:
        raise ValueError(f"{unfit}: {len(lost)} missing, first {lost[0]}")
    if missing:
        logger.warning(f"{name}: newly initialised {len(missing)} tensors, train them: {shorten(missing)}")
    if unused := sorted(info["unexpected_keys"]):
        logger.warning(f"{name}: left out {len(unused)} tensors that the model does not have: {shorten(unused)}")


def load_2d(
    name: str | os.PathLike, config: PreTrainedConfig, family: Family, dtype, **options
) -> tuple[PreTrainedModel, list[str]]:
    """Loads a 2D model whose configuration has been read; safetensors only.

    Args:
        name: folder or name on the Hub.
        config: the model's configuration.
        family: the model's family.
        dtype: as in `from_pretrained`.
        options: arguments of `from_pretrained` that say where files are looked for.

    Returns:
        The model, and the names of weights in its file that the model does not have.

    Raises:
        ValueError: weights of the encoder are missing.
        CheckpointError: the checkpoint cannot be found, reached or read, or its weights are pickled.
    """
    with one_clear_error(name), without_load_report():
        refuse_pickles(name, **options)
        model, info = AutoModel.from_pretrained(
            name, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
        )
    missing = sorted(key for key in info["missing_keys"] if not family.is_unused(key))
    if missing:
        raise ValueError(f"{name}: the 2D checkpoint lacks weights of its own encoder: {shorten(missing)}")
    return model, sorted(info["unexpected_keys"])


def tell_what_was_inflated(
    name: str | os.PathLike, done: dict[str, list[str]], num_slices: int, inflation: str
) -> None:
    """Logs what became of a 2D model's weights; `done` is the loading info of `from_pretrained_2d`."""
    logger.warning(
        f"{name}: loaded {len(done['loaded'])} tensors as they are, inflated the patch embedding to {num_slices} "
        f'slices ("{inflation}"), left out {len(done["left_out"])} that segmentation does not use, and newly '
        f"initialised {len(done['initialised'])}"
        + (" of the decoder: train the model before you use it" if done["initialised"] else "")
    )


def load_whole(model_class, processor_class, name: str | os.PathLike, config: PreTrainedConfig, dtype) -> tuple:
    """Loads model and image processor of a checkpoint, given its configuration; both are complete and fit each other.

    Raises ValueError if weights are missing, left over or do not fit, or the processor does not fit; CheckpointError
    if they cannot be found, reached or read.
    """
    with without_load_report():
        model, info = model_class.from_pretrained(name, config=config, dtype=dtype, output_loading_info=True)
    for problem in ("missing", "unexpected"):
        if keys := sorted(info[f"{problem}_keys"]):
            raise ValueError(f"{name}: its weights do not fit its config.json: {len(keys)} {problem}, first {keys[0]}")
    with one_clear_error(name):
        try:
            processor = processor_class.from_pretrained(name)
            processor.fit_to(config)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return model, processor


def conversion_line(name: str | os.PathLike) -> str:
    """Returns a command line that converts a checkpoint's pickled weights to safetensors.

    It unpickles nothing but tensors.
    """
    is_folder = os.path.isdir(name)
    folder = str(name) if is_folder else str(name).split("/")[-1]
    convert = (
        "import glob, torch; from safetensors.torch import save_file; weights = {}; "
        f"[weights.update(torch.load(file, weights_only=True)) for file in glob.glob('{folder}/pytorch_model*.bin')]; "
        "save_file({key: value.clone() for key, value in weights.items()}, "
        f"'{folder}/model.safetensors', {{'format': 'pt'}})"
    )
    download = "" if is_folder else f"hf download {name} --local-dir {folder} && "
    return f'{download}python -c "{convert}"'


def picture_statistics(name: str | os.PathLike, **options) -> tuple[list[float], list[float]]:
    """Reads the mean and standard deviation that a 2D model's pictures were normalised with.

    Both have one number per colour; they are 0.5 if the checkpoint does not say.
    """
    where = _where(options)
    with one_clear_error(name):
        file = cached_file(name, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False, **where)
    try:
        values = json.loads(Path(file).read_text(encoding="utf-8")) if file else {}
    except ValueError as error:
        raise CheckpointError(f"{name}: expected JSON in its preprocessor_config.json: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{name}: expected a JSON object in its preprocessor_config.json, found {values!r:.60}")
    if values.get("do_normalize") is False:
        return [0.0], [1.0]
    return values.get("image_mean") or [0.5], values.get("image_std") or [0.5]


@contextlib.contextmanager
def without_load_report():
    """Silences transformers' table of missing weights.

    An unused pooler and a new decoder are expected here.
    """
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def shorten(keys: list[str], count: int = 4) -> str:
    """Joins the first few of many names."""
    return ", ".join(keys[:count]) + (f" and {len(keys) - count} more" if len(keys) > count else "")


def _where(options: dict) -> dict:
    """Selects the arguments of `from_pretrained` that say where files are looked for."""
    return {key: options[key] for key in _WHERE if options.get(key) is not None}


def _reason(error: BaseException | None) -> str | None:
    """Explains why a checkpoint could not be loaded, by the causes of an error; None if it has another reason."""
    beneath = []
    while error is not None and error not in beneath:
        beneath.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)

    def any_is(*kinds) -> bool:
        return any(isinstance(error, kinds) for error in beneath)

    if any_is(errors.GatedRepoError):
        return (
            "is gated: accept its conditions on its page on the Hub, then log in with `hf auth login` or pass "
            "token=..."
        )
    if any_is(errors.RepositoryNotFoundError):
        return (
            "no such folder here and no such name on the Hub; if it is private, log in with `hf auth login` or pass "
            "token=..."
        )
    if any_is(errors.RevisionNotFoundError):
        return "has no such revision (branch, tag or commit)"
    if any_is(errors.HFValidationError):
        return "no such folder here, and no name on the Hub can be spelled like this"
    if any_is(errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError, ConnectionError) or any(
        type(error).__name__ in ("ConnectError", "ConnectTimeout") for error in beneath
    ):
        return "no such folder here, not in the cache, and the Hub cannot be reached (no network, or HF_HUB_OFFLINE=1)"
    if any(type(error).__module__.startswith("http") for error in beneath):
        return "the connection to the Hub was cut off; run the same again"
    if any(type(error).__name__ == "SafetensorError" for error in beneath):
        return f"expected weights in a safetensors file, found a damaged one: {' '.join(str(beneath[0]).split())}"
    return None


def _exists(name: str | os.PathLike, file: str, where: dict) -> bool:
    """Tells whether a folder or a repository on the Hub has a file."""
    if os.path.isdir(name):
        return (Path(name) / where.get("subfolder", "") / file).is_file()
    path = f"{where['subfolder']}/{file}" if where.get("subfolder") else file
    try:
        return HfApi().file_exists(str(name), path, revision=where.get("revision"), token=where.get("token"))
    except (OSError, ValueError, errors.OfflineModeIsEnabled):
        return False
