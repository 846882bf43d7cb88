"""neuron-vit3d app: a page for the browser on which a stack is segmented and traced."""

import importlib.util
from typing import Annotated

import typer

from .input import check_device, check_number
from .options import example
from .output import note


@example("neuron-vit3d app --port 7860")
def app(
    model: Annotated[
        str | None, typer.Option(help="Checkpoint folder or Hub name. Default: the embedded one.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; 0.0.0.0: all. Default: this machine alone.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Default: the first free one from 7860 on.")] = None,
    device: Annotated[str | None, typer.Option(help="As of segment: cpu, cuda ...")] = None,
    megabytes: Annotated[float, typer.Option(help="Largest file.")] = 100,
    voxels: Annotated[float, typer.Option(help="Largest stack, in million voxels of all channels.")] = 33.5,
    minutes: Annotated[float, typer.Option(help="Longest time to segment a stack.")] = 10,
) -> None:
    """Open a page on which stacks are segmented, looked at in 3D, and traced anew by moving sliders.

    Stacks and what is made of them are deleted within half an hour. The page asks no other server for anything.
    """
    for option, value in (("--megabytes", megabytes), ("--voxels", voxels), ("--minutes", minutes)):
        check_number(option, value, above=0)
    if port is not None:
        check_number("--port", port, at_least=1, at_most=65535)
    for name in ("gradio", "plotly"):
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"the page needs {name}: pip install neuron_vit3d[app]")
    check_device(device)
    from ..apps.space.page import launch
    from ..apps.space.work import Limits
    from ..inference import Segmenter

    segmenter = Segmenter(model, device=device)
    limits = Limits(megabytes, int(voxels * 1e6), minutes * 60)
    note(f"stacks of {limits.in_words()}; Ctrl-C ends it")
    launch(segmenter, limits, host=host, port=port)
