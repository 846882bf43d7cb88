"""Compares trees or masks with gold ones: python scripts/evaluate.py predicted gold [options of `neuron-vit3d
evaluate`]."""

import sys

from neuron_vit3d.cli import main


if __name__ == "__main__":
    sys.argv.insert(1, "evaluate")
    main()
