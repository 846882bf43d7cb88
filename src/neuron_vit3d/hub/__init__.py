"""Publishes a checkpoint: it becomes a folder with its code and a card, which goes to the Hub in one commit."""

from .answers import PublishError
from .assemble import assemble
from .cards import dataset_card, model_card
from .facts import CardError, DatasetFacts, ModelFacts, read_facts
from .publish import check_can_publish_checkpoint, publish
from .publish_dataset import check_can_publish, publish_dataset


__all__ = [
    "CardError",
    "DatasetFacts",
    "ModelFacts",
    "PublishError",
    "assemble",
    "check_can_publish",
    "check_can_publish_checkpoint",
    "dataset_card",
    "model_card",
    "publish",
    "publish_dataset",
    "read_facts",
]
