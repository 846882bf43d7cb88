"""Publishes a trained checkpoint on the Hub, with its code and a card, in one commit: `neuron-vit3d publish` as a script.

    python scripts/push_to_hub.py runs/first user/first --facts model_cards/first.yaml --private
    python scripts/push_to_hub.py default user/default                       # the embedded default
    python scripts/push_to_hub.py runs/first user/first --facts model_cards/first.yaml --dry-run folder   # only look

Prints the commit's address, or that of the pull request.
"""

from neuron_vit3d.cli.errors import run_script
from neuron_vit3d.cli.publish import publish


if __name__ == "__main__":
    run_script("push_to_hub.py", publish)
