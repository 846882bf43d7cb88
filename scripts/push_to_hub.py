"""Publishes a trained checkpoint on the Hub, with its code and a card, in one commit.

    python scripts/push_to_hub.py runs/first user/first --facts model_cards/first.yaml --private
    python scripts/push_to_hub.py default user/default                       # the embedded default
    python scripts/push_to_hub.py runs/first user/first --facts model_cards/first.yaml --dry-run folder   # only look

Prints the commit's address, or that of the pull request.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer


REPOSITORY = Path(__file__).resolve().parents[1]


def main(
    checkpoint: Annotated[str, typer.Argument(help='Folder that scripts/train.py left, or "default".')],
    repo_id: Annotated[str, typer.Argument(help="Where to: name/repository.")],
    facts: Annotated[
        Path | None, typer.Option(help="Facts for the card [default: facts.yaml in the checkpoint's folder].")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch, made where it does not exist.")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request.")] = False,
    message: Annotated[str | None, typer.Option(help="Title of the commit.")] = None,
    dry_run: Annotated[Path | None, typer.Option(help="Write what would be uploaded to this folder instead.")] = None,
) -> None:
    """Publishes a trained checkpoint on the Hub, with its code and a card, in one commit."""
    from huggingface_hub.utils import disable_progress_bars

    from neuron_vit3d.hub import assemble, publish
    from neuron_vit3d.inference import DEFAULT_CHECKPOINT

    if not sys.stderr.isatty():
        disable_progress_bars()  # what a log needs is the error
    folder = checkpoint
    if checkpoint == "default":
        folder, facts = DEFAULT_CHECKPOINT, facts or REPOSITORY / "model_cards" / "default.yaml"
    try:
        if dry_run is not None:
            print(assemble(folder, dry_run, facts, repo_id))
            return
        done = publish(
            folder,
            repo_id,
            facts=facts,
            private=private,
            revision=revision,
            create_pr=create_pr,
            commit_message=message,
        )
    except (ValueError, OSError) as error:
        print(f"push_to_hub.py: {' '.join(str(error).split())}", file=sys.stderr)
        raise typer.Exit(2) from error
    print(done.pr_url or done.commit_url)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(main)
    app()
