"""The losses that can be added to another by weight: a table that is read before torch is imported."""

from dataclasses import field


# The name of a function in losses.py -> what its loss is, as help texts say it. `TrainingConfig` has an option
# NAME_weight for each.
ADDED = {
    "cldice": "soft clDice (needs monai)",
    "skeleton": "the skeleton-aware loss",
}


def with_weights(options: type) -> type:
    """Gives a class of options, which is to become a dataclass, the field NAME_weight for each loss, after `loss`."""
    fields: dict[str, object] = {}
    for name, kind in options.__annotations__.items():
        fields[name] = kind
        if name == "loss":
            fields |= {f"{added}_weight": float for added in ADDED}
    options.__annotations__ = fields
    for name in ADDED:
        words = {"help": "Weight of {}, added to the loss."}
        setattr(options, f"{name}_weight", field(default=0.0, metadata=words))
    return options
