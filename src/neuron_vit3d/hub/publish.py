"""Publishes a checkpoint on the Hub in one commit, or not at all.

Everything that can be checked here is checked, and the whole folder is assembled, before the Hub is told anything.
`HfApi.upload_folder` would split the folder into several commits where Xet is installed; this does not.
"""

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
)
from huggingface_hub.errors import RevisionNotFoundError
from huggingface_hub.hf_api import ModelInfo

from .answers import (
    PublishError,
    check_card,
    check_may_write,
    check_name,
    existing_repository,
    one_clear_error,
    token_for,
)
from .assemble import assemble
from .cards import PICTURE
from .evidence import TRAINING_CONFIG, TRAINING_LOGS
from .facts import ModelFacts, read_facts


# Files at the top of a repository that a checkpoint's earlier version may have left: its code, weights, record,
# picture.
# (handler.py is what the Hub's own endpoints are told by; a checkpoint has none.)
_OF_A_CHECKPOINT = re.compile(
    r"(?!handler\.py)[^/]+\.py|(pytorch_)?model[^/]*\.(safetensors|bin)(\.index\.json)?"
    r"|config\.json|preprocessor_config\.json"
    rf"|{re.escape(TRAINING_LOGS[0])}|{re.escape(TRAINING_CONFIG)}|{re.escape(PICTURE)}\.\w+"
)

_PROPOSE = ", or, if the repository exists, propose the checkpoint by create_pr=True"
# When the answer to a commit is lost, nobody here knows whether there was one.
_ALL_OR_NOTHING = "the whole checkpoint is there or nothing of it, run the same again to be sure"


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

    A repository that does not exist is made. Files that an earlier version of the checkpoint left there and that this
    one does not have (code, weights, record) are removed by the same commit; all others stay. Where nothing has
    changed there is no commit, and no pull request.

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
    check_name(repo_id)
    token = token_for(repo_id, token)
    with tempfile.TemporaryDirectory(prefix="neuron_vit3d_") as temporary:
        folder = assemble(checkpoint, Path(temporary) / "checkpoint", facts, repo_id)
        with one_clear_error(repo_id, _ALL_OR_NOTHING, _PROPOSE):
            check_card(repo_id, ModelCard.load(folder / "README.md"), "the facts")
            api = HfApi(token=token)
            head = _head(api, repo_id, private, revision, create_pr)
            files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
            stale = [file.rfilename for file in head.siblings or [] if _OF_A_CHECKPOINT.fullmatch(file.rfilename)]
            operations: list[CommitOperationAdd | CommitOperationDelete] = [
                CommitOperationAdd(name, path) for name, path in sorted(files.items())
            ]
            operations += [CommitOperationDelete(name, is_folder=False) for name in stale if name not in files]
            return api.create_commit(
                repo_id,
                operations,
                commit_message=commit_message or "Checkpoint, code and card",
                revision=revision,
                create_pr=create_pr,
                parent_commit=head.sha,  # what is stale was decided by this state
            )


def check_can_publish_checkpoint(
    repo_id: str, facts: str | os.PathLike, *, private: bool = False, token: str | None = None
) -> None:
    """Finds, before hours of training, the reasons for which [`publish`] would be refused. Changes nothing.

    Args:
        repo_id, facts, private, token: as there.

    Raises:
        CardError (a ValueError): the file of facts is missing or wrong.
        PublishError (an OSError): the name cannot be one on the Hub; the Hub cannot be reached, or HF_HUB_OFFLINE
            forbids it; there is no token, or it may not write there; the repository is public and should be private.
    """
    check_name(repo_id)
    read_facts(facts)
    api = HfApi(token=token_for(repo_id, token))
    with one_clear_error(repo_id, "nothing was begun; run the same again"):
        check_may_write(api, repo_id, existing_repository(api, repo_id, "model", private))


def _head(api: HfApi, repo_id: str, private: bool, revision: str | None, create_pr: bool) -> ModelInfo:
    """Returns the state that the commit builds on; makes the repository and the branch where they do not exist."""
    info = existing_repository(api, repo_id, "model", private)
    if info is None:
        if create_pr:
            raise PublishError(f"{repo_id}: no such repository to open a pull request in, or the token may not see it")
        # Where `private` is not asked for, an organisation's own rule decides.
        api.create_repo(repo_id, private=private or None)
        info = api.model_info(repo_id)
    if revision is None:
        return info
    try:
        return api.model_info(repo_id, revision=revision)
    except RevisionNotFoundError as error:
        if create_pr:
            raise PublishError(f"{repo_id}: has no branch {revision} to open a pull request against") from error
        api.create_branch(repo_id, branch=revision)
        return api.model_info(repo_id, revision=revision)
