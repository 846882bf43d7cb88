"""The command line as a module: python -m neuron_vit3d.cli segment ..."""

from .program import main


if __name__ == "__main__":
    main()
