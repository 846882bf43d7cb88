"""publish: a checkpoint goes to the Hub in one commit, or not at all.

Everything that can be checked here is checked, and the whole folder assembled, before the Hub is told anything. Uploading
the folder by `HfApi.upload_folder` would split it into several commits where Xet is installed; this does not.
"""

import contextlib
import json
import os
import re
import tempfile
from pathlib import Path

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelCard,
    constants,
    get_token,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import ModelInfo
from huggingface_hub.utils import validate_repo_id

from .assemble import assemble
from .cards import PICTURE
from .evidence import TRAINING_CONFIG, TRAINING_LOGS
from .facts import ModelFacts


# Files at the top of a repository that a checkpoint's earlier version may have left: its code, weights, record, picture.
# (handler.py is what the Hub's own endpoints are told by; a checkpoint has none.)
_OF_A_CHECKPOINT = re.compile(
    r"(?!handler\.py)[^/]+\.py|(pytorch_)?model[^/]*\.(safetensors|bin)(\.index\.json)?|config\.json|preprocessor_config\.json"
    rf"|{re.escape(TRAINING_LOGS[0])}|{re.escape(TRAINING_CONFIG)}|{re.escape(PICTURE)}\.\w+"
)

# When the answer to a commit is lost, nobody here knows whether there was one.
_ALL_OR_NOTHING = "the whole checkpoint is there or nothing of it, run the same again to be sure"


class PublishError(OSError):
    """A checkpoint could not be published. The message is one line, names the repository and says what to do."""


def publish(
    checkpoint: str | os.PathLike,
    repo_id: str,
    *,
    facts: ModelFacts | str | os.PathLike | None = None,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | None = None,
    commit_message: str | None = None,
) -> CommitInfo:
    """Uploads a checkpoint with its code, image processor, card and record to the Hub, in one commit.

    A repository that does not exist is made. Files that an earlier version of the checkpoint left there and that this one
    does not have (code, weights, record) are removed by the same commit; all others stay. Where nothing has changed there
    is no commit, and no pull request.

    Args:
        checkpoint: folder, as for [`assemble`].
        repo_id: `"name/repository"`.
        facts: [`ModelFacts`] or the path of their file, for the card; None: facts.yaml in the checkpoint's folder.
        private: make a new repository private, and refuse one that is public.
        revision: branch to commit to, made from main where it does not exist; None: main.
        create_pr: open a pull request (against `revision` or main) instead of committing to the branch.
        token: of the Hub; None: the one that `hf auth login` or HF_TOKEN left.
        commit_message: title of the commit.

    Returns:
        `CommitInfo` with `commit_url`, `oid`, and `pr_url` of a pull request.

    Raises:
        PublishError (an OSError): the Hub cannot be reached or refuses. The branch is then as it was; where it, or the
            repository, had to be made, it may be there without the checkpoint.
        CardError, ValueError, OSError: as [`assemble`]; the Hub was not asked anything.
    """
    _check_name(repo_id)
    token = _token(repo_id, token)
    with tempfile.TemporaryDirectory(prefix="neuron_vit3d_") as temporary:
        folder = assemble(checkpoint, Path(temporary) / "checkpoint", facts, repo_id)
        with _one_clear_error(repo_id):
            _validate_card(repo_id, folder)
            api = HfApi(token=token)
            head = _head(api, repo_id, private, revision, create_pr)
            files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
            stale = [file.rfilename for file in head.siblings or [] if _OF_A_CHECKPOINT.fullmatch(file.rfilename)]
            operations = [CommitOperationAdd(name, path) for name, path in sorted(files.items())]
            operations += [CommitOperationDelete(name, is_folder=False) for name in stale if name not in files]
            return api.create_commit(
                repo_id,
                operations,
                commit_message=commit_message or "Checkpoint, code and card",
                revision=revision,
                create_pr=create_pr,
                parent_commit=head.sha,  # what is stale was decided by this state
            )


def _check_name(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise PublishError(f"{repo_id}: no name on the Hub can be spelled like this: {_one_line(error)}") from error
    if "/" not in repo_id:
        raise PublishError(f"{repo_id}: expected name/repository, with the name of a user or an organisation")


def _token(repo_id: str, token: str | None) -> str:
    if constants.is_offline_mode():
        raise PublishError(f"{repo_id}: HF_HUB_OFFLINE=1 forbids to ask the Hub: unset it")
    token = token or get_token()
    if not token:
        raise PublishError(f"{repo_id}: no token: log in with `hf auth login`, set HF_TOKEN, or pass token=...")
    return token


def _validate_card(repo_id: str, folder: Path) -> None:
    """The Hub would refuse the commit for its card, but only after the repository was made."""
    try:
        ModelCard.load(folder / "README.md").validate()
    except HfHubHTTPError:
        raise
    except ValueError as error:
        raise PublishError(f"{repo_id}: the Hub refuses the card, correct the facts: {_complaints(error)}") from error


def _head(api: HfApi, repo_id: str, private: bool, revision: str | None, create_pr: bool) -> ModelInfo:
    """The state that the commit goes on top of; makes the repository and the branch where they do not exist."""
    try:
        info = api.model_info(repo_id)
    except RepositoryNotFoundError as error:
        if error.response.status_code == 401:
            raise
        if create_pr:
            raise PublishError(
                f"{repo_id}: no such repository to open a pull request in, or the token may not see it"
            ) from error
        # Where `private` is not asked for, an organisation's own rule decides.
        api.create_repo(repo_id, private=private or None)
        info = api.model_info(repo_id)
    if private and not info.private:
        raise PublishError(f"{repo_id}: is public already: make it private on its page, or publish without private")
    if revision is None:
        return info
    try:
        return api.model_info(repo_id, revision=revision)
    except RevisionNotFoundError as error:
        if create_pr:
            raise PublishError(f"{repo_id}: has no branch {revision} to open a pull request against") from error
        api.create_branch(repo_id, branch=revision)
        return api.model_info(repo_id, revision=revision)


@contextlib.contextmanager
def _one_clear_error(repo_id: str):
    """Turns what huggingface_hub raises into one `PublishError`."""
    try:
        yield
    except PublishError:
        raise
    except Exception as error:
        reason = _reason(repo_id, error)
        if reason is None:
            raise
        raise PublishError(f"{repo_id}: {reason}") from error


def _reason(repo_id: str, error: BaseException) -> str | None:
    """What to do about an error of huggingface_hub, from whatever lies beneath it; None: it is none of the Hub's."""
    beneath = []
    while error is not None and error not in beneath:
        beneath.append(error)
        error = error.__cause__ or error.__context__
    for error in beneath:
        if isinstance(error, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE=1 forbids to ask the Hub: unset it"
        if isinstance(error, HfHubHTTPError):
            return _reason_of_answer(repo_id, error)
    network = [
        type(error).__name__ for error in beneath if type(error).__module__.partition(".")[0].startswith("http")
    ]
    if any(name in ("ConnectError", "ConnectTimeout") for name in network):
        return f"the Hub ({constants.ENDPOINT}) cannot be reached: check the network, then run the same again"
    if network or any(isinstance(error, ConnectionError) for error in beneath):
        return f"the connection was cut off; {_ALL_OR_NOTHING}"
    return None


def _reason_of_answer(repo_id: str, error: HfHubHTTPError) -> str:
    status, said = error.response.status_code, _one_line(error.server_message or error)
    if error.response.request.method == "PUT":  # the storage of large files, whose addresses expire, and not the Hub
        return f"the upload was cut off ({status}); {_ALL_OR_NOTHING}"
    if status == 401:
        return "the Hub does not accept the token: log in again with `hf auth login`, or pass another one by token=..."
    if status == 403:
        return (
            f"the token may not write there ({said}): use one with write access to {repo_id.split('/')[0]}, or, if the "
            "repository exists, propose the checkpoint by create_pr=True"
        )
    if isinstance(error, RevisionNotFoundError):
        return "the revision is no branch that can be written to (a tag, or a commit?): name a branch"
    if isinstance(error, RepositoryNotFoundError):
        return "no such repository or name on the Hub, or the token may not see it: check how it is spelled"
    if status in (409, 412):
        return f"somebody else changed the repository meanwhile and nothing was published ({said}): run the same again"
    if status == 429 or status >= 500:
        return f"the Hub answered {status} ({said}); {_ALL_OR_NOTHING}"
    return f"the Hub refused ({status}): {said}"


def _complaints(error: ValueError) -> str:
    """What the Hub says against a card, from the JSON of its answer."""
    try:
        return "; ".join(_one_line(entry["message"]) for entry in json.loads(str(error))["errors"])
    except (ValueError, KeyError, TypeError):
        return _one_line(error)


def _one_line(text) -> str:
    return " ".join(str(text).split())
