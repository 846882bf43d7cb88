"""The command line as a module: python -m neuron_vit3d segment ..., accelerate launch -m neuron_vit3d train ..."""

from .cli.program import main


if __name__ == "__main__":
    main()
