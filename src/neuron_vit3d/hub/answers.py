"""Turns what the Hub answers into one line that says what to do."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from huggingface_hub import HfApi, RepoCard, constants, get_token
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import DatasetInfo, ModelInfo
from huggingface_hub.utils import validate_repo_id


class PublishError(OSError):
    """Something could not be published; the message is one line, names the repository and says what to do."""


def check_name(repo_id: str) -> None:
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise PublishError(f"{repo_id}: no name on the Hub can be spelled like this: {_one_line(error)}") from error
    if "/" not in repo_id:
        raise PublishError(f"{repo_id}: expected name/repository, with the name of a user or an organisation")


def token_for(repo_id: str, token: str | None) -> str:
    if constants.is_offline_mode():
        raise PublishError(f"{repo_id}: HF_HUB_OFFLINE=1 forbids to ask the Hub: unset it")
    token = token or get_token()
    if not token:
        raise PublishError(f"{repo_id}: no token: log in with `hf auth login`, set HF_TOKEN, or pass token=...")
    return token


def existing_repository(api: HfApi, repo_id: str, repo_type: str, private: bool) -> Any:
    """Asks for the state of a repository; None where there is none, or where the token may not see it.

    A public repository is refused where `private` is asked for.
    """
    try:
        info = api.repo_info(repo_id, repo_type=repo_type)
    except RepositoryNotFoundError as error:
        if error.response.status_code == 401:
            raise
        return None
    if private and not info.private:
        raise PublishError(f"{repo_id}: is public already: make it private on its page, or publish without private")
    return info


def check_may_write(api: HfApi, repo_id: str, info: ModelInfo | DatasetInfo | None) -> None:
    """Refuses a token that certainly may not write there; of fine-grained rights only writing itself can tell."""
    user = api.whoami(cache=True)
    role = user.get("auth", {}).get("accessToken", {}).get("role")
    namespace = (info.id if info else repo_id).split("/")[0]
    names = [user.get("name", ""), *(org.get("name", "") for org in user.get("orgs", []))]
    if role == "read" or (role == "write" and namespace.lower() not in map(str.lower, names)):
        why = "it may only read" if role == "read" else f"it is of {names[0]}"
        raise PublishError(
            f"{repo_id}: the token may not write there ({why}): use one with write access to {namespace}"
        )


def check_card(repo_id: str, card: RepoCard, correct: str) -> None:
    """Asks the Hub about a card now, which it would otherwise refuse at the end, after all files were uploaded.

    correct: what is to be corrected, for the message.
    """
    try:
        card.validate()
    except HfHubHTTPError:
        raise
    except ValueError as error:
        raise PublishError(f"{repo_id}: the Hub refuses the card, correct {correct}: {_complaints(error)}") from error


@contextlib.contextmanager
def one_clear_error(repo_id: str, when_cut_off: str, otherwise: str = "") -> Iterator[None]:
    """Turns what huggingface_hub raises into one `PublishError`.

    Args:
        repo_id: the repository, for the message.
        when_cut_off: what is then there, and what to do.
        otherwise: what can be done by who may not write there.
    """
    try:
        yield
    except PublishError:
        raise
    except Exception as error:
        reason = _reason(repo_id, error, when_cut_off, otherwise)
        if reason is None:
            raise
        raise PublishError(f"{repo_id}: {reason}") from error


def _reason(repo_id: str, error: BaseException, when_cut_off: str, otherwise: str) -> str | None:
    """Says what to do about an error, by the errors beneath it; None where it is not an error of the Hub."""
    beneath: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in beneath:
        beneath.append(cause)
        cause = cause.__cause__ or cause.__context__
    for one in beneath:
        if isinstance(one, OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE=1 forbids to ask the Hub: unset it"
        if isinstance(one, HfHubHTTPError):
            return _reason_of_answer(repo_id, one, when_cut_off, otherwise)
    network = [
        type(error).__name__ for error in beneath if type(error).__module__.partition(".")[0].startswith("http")
    ]
    if any(name in ("ConnectError", "ConnectTimeout") for name in network):
        return f"the Hub ({constants.ENDPOINT}) cannot be reached: check the network, then run the same again"
    if network or any(isinstance(error, ConnectionError) for error in beneath):
        return f"the connection was cut off; {when_cut_off}"
    return None


def _reason_of_answer(repo_id: str, error: HfHubHTTPError, when_cut_off: str, otherwise: str) -> str:
    status, said = error.response.status_code, _one_line(error.server_message or error)
    if error.response.request.method == "PUT":  # the storage of large files, whose addresses expire, and not the Hub
        return f"the upload was cut off ({status}); {when_cut_off}"
    if status == 401:
        return "the Hub does not accept the token: log in again with `hf auth login`, or pass another one by token=..."
    if status == 403:
        return (
            f"the token may not write there ({said}): use one with write access to {repo_id.split('/')[0]}{otherwise}"
        )
    if isinstance(error, RevisionNotFoundError):
        return "the revision is no branch that can be written to (a tag, or a commit?): name a branch"
    if isinstance(error, RepositoryNotFoundError):
        return "no such repository or name on the Hub, or the token may not see it: check how it is spelled"
    if status in (409, 412):
        return f"somebody else changed the repository meanwhile and nothing was published ({said}): run the same again"
    if status == 429 or status >= 500:
        return f"the Hub answered {status} ({said}); {when_cut_off}"
    return f"the Hub refused ({status}): {said}"


def _complaints(error: ValueError) -> str:
    """Reads the Hub's complaints about a card from the JSON of its answer."""
    try:
        return "; ".join(_one_line(entry["message"]) for entry in json.loads(str(error))["errors"])
    except (ValueError, KeyError, TypeError):
        return _one_line(error)


def _one_line(text) -> str:
    return " ".join(str(text).split())
