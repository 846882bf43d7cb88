"""Compares trees or masks with gold ones, as `neuron-vit3d evaluate` does and with its options.

python scripts/evaluate.py predicted gold [options]
"""

import sys

from neuron_vit3d.cli import main


if __name__ == "__main__":
    sys.argv.insert(1, "evaluate")
    main()
