"""neuron-vit3d publish, and scripts/push_to_hub.py: publishes a trained checkpoint on the Hub."""

from pathlib import Path
from typing import Annotated

import typer

from .options import JsonOption, example
from .output import Output


@example("neuron-vit3d publish runs/first user/first --private")
def publish(
    checkpoint: Annotated[str, typer.Argument(help='Folder that training left, or "default".')],
    repo_id: Annotated[str, typer.Argument(help="Where to: name/repository.")],
    facts: Annotated[
        Path | None, typer.Option(help="Facts for the card. Default: facts.yaml in the checkpoint's folder.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch, made where it does not exist.")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request.")] = False,
    message: Annotated[str | None, typer.Option(help="Title of the commit.")] = None,
    dry_run: Annotated[Path | None, typer.Option(help="Write what would be uploaded to this folder instead.")] = None,
    json: JsonOption = False,
) -> None:
    """Publish a trained checkpoint on the Hub, with its code and a card, in one commit; print its address.

    "default" is the checkpoint that comes with the package.
    """
    from ..hub import assemble
    from ..hub import publish as publish_checkpoint
    from ..inference import DEFAULT_CHECKPOINT

    folder: str | Path = checkpoint
    if checkpoint == "default":
        folder = DEFAULT_CHECKPOINT
    out = Output(json)
    if dry_run is not None:
        out.tell(str(assemble(folder, dry_run, facts, repo_id)), folder=dry_run)
    else:
        done = publish_checkpoint(
            folder,
            repo_id,
            facts=facts,
            private=private,
            revision=revision,
            create_pr=create_pr,
            commit_message=message,
        )
        address = done.pr_url or done.commit_url
        out.tell(address, address=address)
    out.end()
