"""Prepares BigNeuron's Gold166, or any images with SWC files, as a dataset: `neuron-vit3d prepare` as a script.

    python scripts/prepare_bigneuron.py gold166.zip prepared                    # the release, read in place
    python scripts/prepare_bigneuron.py my_stacks prepared --num-proc 8 --table origins.csv --licence CC-BY-4.0
    python scripts/prepare_bigneuron.py my_stacks prepared --push-to-hub user/my-neurons --private

Run it again to continue after an interruption, or to add neurons: what is done is kept. `prepared/report.csv` and
`prepared/report-01.png` ... tell what became of every pair.
"""

from neuron_vit3d.cli.errors import run_script
from neuron_vit3d.cli.prepare import prepare


if __name__ == "__main__":
    run_script("prepare_bigneuron.py", prepare)
