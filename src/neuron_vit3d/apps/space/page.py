"""The page of the Space, made of gradio: it asks no other server for anything, and keeps nothing of anybody."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import uuid
from pathlib import Path
from threading import Thread
from typing import Any

from ...data.sample import SAMPLE_IMAGE
from ...volumes.volume import checked_voxel_size
from .work import Kept, Limits, SpaceError, Traced, segment_stack, trace_kept, write_files


# A session that nobody touches for so long is over: its scores and files are deleted, and stacks that lie as long.
_SESSION_SECONDS = 1800
_SWEEP_SECONDS = 60
_MOST_SESSIONS = 16  # with at most 134 MB of scores each
_MOST_WAITING = 40
# The browser asks this server alone, whatever is in the page.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob: ws: wss:; object-src 'none'"
)
_ABOUT = """# Neurons, traced
Drop a 3D stack of one neuron (TIFF, Vaa3D v3draw or v3dpbd, .npy; {limits}): it is segmented once, and traced anew \
whenever you move a slider. Your stack and all that is made of it are deleted within half an hour.
"""
_CSS = ".turning {min-height: 560px} footer {display: none !important}"


def make_page(segmenter, limits: Limits, home: Path):
    """Makes the page.

    Args:
        segmenter: the model, ready.
        limits: of a stack.
        home: the folder for what can be downloaded, which gradio serves: `GRADIO_TEMP_DIR`.

    Returns:
        The `gradio.Blocks`.
    """
    import gradio as gr

    def started(upload: str | None, channel: str, size: str, progress) -> tuple:
        if not upload:
            raise _told(gr, SpaceError("Choose a stack first."))
        try:
            kept = segment_stack(
                Path(upload),
                home / f"session-{uuid.uuid4().hex}",
                segmenter,
                limits,
                channel=_channel(channel),
                voxel_size=_voxel_size(size),
                progress=lambda share: progress(share, desc="Segmenting"),
            )
        except ValueError as error:
            raise _told(gr, error) from None
        traced = trace_kept(kept, threshold=kept.threshold, min_branch_length=3.0, min_confidence=0.0)
        return kept, traced, round(kept.threshold, 4), 3, 0, *_drawn(traced), None

    def from_upload(upload, channel, size, progress=gr.Progress()):  # noqa: B008  # gradio finds it as a default
        return started(upload, channel, size, progress)

    def from_example(progress=gr.Progress()):  # noqa: B008
        return started(str(SAMPLE_IMAGE), "", "", progress)

    def anew(kept: Kept | None, threshold: float, min_branch_length: float, min_confidence: float):
        if kept is None:
            raise _told(gr, SpaceError("Nothing is segmented yet, or your session is over: send the stack again."))
        try:
            how = {"min_branch_length": float(min_branch_length), "min_confidence": float(min_confidence)}
            traced = trace_kept(kept, threshold=float(threshold), **how)
        except (ValueError, TypeError) as error:
            raise _told(gr, error) from None
        return traced, *_drawn(traced), None

    def files(kept: Kept | None, traced: Traced | None):
        if kept is None or traced is None:
            raise _told(gr, SpaceError("Nothing is segmented yet, or your session is over: send the stack again."))
        return [str(path) for path in write_files(kept, traced)]

    with gr.Blocks(title="neuron_vit3d", analytics_enabled=False) as page:
        gr.Markdown(_ABOUT.format(limits=limits.in_words()))
        kept = gr.State(None, time_to_live=_SESSION_SECONDS, delete_callback=lambda one: one and one.forget())
        traced = gr.State(None, time_to_live=_SESSION_SECONDS)
        with gr.Row():
            with gr.Column(scale=2, min_width=360):
                upload = gr.File(label="Stack", type="filepath", height=140)
                with gr.Row():
                    channel = gr.Textbox(label="Channel, from 0", placeholder="if several", min_width=120)
                    size = gr.Textbox(label="Voxel size z, y, x in µm", placeholder="from the file", min_width=120)
                with gr.Row():
                    begin = gr.Button("Segment", variant="primary", min_width=120)
                    example = gr.Button("Try the example", min_width=120)
                threshold = gr.Slider(0.001, 1, 0.5, step=0.001, label="Threshold of the scores")
                shortest = gr.Slider(0, 50, 3, step=1, label="Shortest end branch, in voxels")
                surest = gr.Slider(0, 1, 0, step=0.05, label="Cut off branches less sure than")
                prepare = gr.Button("Make files to download")
                downloads = gr.File(
                    label="SWC, branches, mask, picture, report", file_count="multiple", interactive=False
                )
            with gr.Column(scale=5, min_width=500):
                said = gr.Markdown()
                tree = gr.Plot(show_label=False, elem_classes="turning")
                picture = gr.Image(
                    label="Maximum projections: image, and with its tree",
                    interactive=False,
                    buttons=["download", "fullscreen"],
                )
        sliders, drawn = [threshold, shortest, surest], [said, tree, picture]
        everything = [kept, traced, *sliders, *drawn, downloads]
        # One at a time: two would share the processors, and both be late.
        one_at_a_time: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model", "show_progress_on": tree}
        begin.click(from_upload, [upload, channel, size], everything, api_name="segment", **one_at_a_time)
        example.click(from_example, None, everything, api_name="example", **one_at_a_time)
        for slider in sliders:
            slider.release(
                anew,
                [kept, *sliders],
                [traced, *drawn, downloads],
                api_name="trace" if slider is threshold else None,
                api_visibility="public" if slider is threshold else "private",
                concurrency_limit=2,
                concurrency_id="trace",
                trigger_mode="always_last",
                show_progress_on=tree,
            )
        prepare.click(files, [kept, traced], downloads, api_name="files", concurrency_limit=2, concurrency_id="trace")
    return page.queue(max_size=_MOST_WAITING)


def launch(segmenter, limits: Limits, *, host: str | None = None, port: int | None = None, block: bool = True):
    """Opens the page to browsers.

    Args:
        segmenter: the model.
        limits: of a stack.
        host, port: where it listens; None: this machine alone, at the first free port from 7860 on.
        block: return only when it is stopped. Otherwise the caller closes the page that is returned.
    """
    home = Path(tempfile.mkdtemp(prefix="neuron-vit3d-app-"))
    os.environ["GRADIO_TEMP_DIR"] = str(home)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr
    from starlette.middleware import Middleware

    page = make_page(segmenter, limits, home)
    Thread(target=_keep_swept, args=(home,), daemon=True).start()
    try:
        page.launch(
            server_name=host,
            server_port=port,
            share=False,
            ssr_mode=False,
            mcp_server=False,
            quiet=True,
            prevent_thread_lock=not block,
            allowed_paths=[],
            max_file_size=int(limits.megabytes * 1e6),
            state_session_capacity=_MOST_SESSIONS,
            app_kwargs={"middleware": [Middleware(_Policy)]},
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
            css=_CSS,
            footer_links=[],
        )
    finally:
        if block:
            shutil.rmtree(home, ignore_errors=True)
    page.home = home
    return page


def sweep(home: Path, seconds: float) -> None:
    """Deletes the folders of uploads and of sessions, and broken uploads, to which nothing was written for so long.

    An upload cannot be deleted with its session: gradio keeps stacks of one content, whoever sent them, once.
    """
    oldest = time.time() - seconds
    for path in list(home.iterdir()):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


def _keep_swept(home: Path) -> None:
    while home.is_dir():
        sweep(home, _SESSION_SECONDS)
        time.sleep(_SWEEP_SECONDS)


class _Policy:
    """Tells the browser with each answer to ask no other server (ASGI)."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def with_policy(message):
            if message["type"] == "http.response.start":
                more = [(b"content-security-policy", _POLICY.encode()), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": [*message.get("headers", []), *more]}
            await send(message)

        await self.app(scope, receive, with_policy)


def _drawn(traced: Traced) -> tuple:
    """The text, the 3D drawing and the picture of a tree, as gradio takes them."""
    import plotly.graph_objects as go

    drawing = None if traced.figure is None else go.Figure(traced.figure)
    if drawing is not None:
        drawing.update_layout(height=560, autosize=True)
    return traced.said, drawing, str(traced.picture)


def _channel(text: str) -> int | None:
    """Reads the number of a channel. Raises SpaceError."""
    if not (text or "").strip():
        return None
    if not text.strip().isdecimal():
        raise SpaceError(f"Expected the number of a channel, from 0, got {text!r}.")
    return int(text)


def _voxel_size(text: str) -> tuple[float, float, float] | None:
    """Reads `z, y, x`. Raises SpaceError."""
    if not (text or "").strip():
        return None
    try:
        return checked_voxel_size([float(side) for side in text.replace(",", " ").split()], "Voxel size")
    except ValueError:
        raise SpaceError(f"Expected a voxel size z, y, x in µm, such as 1, 0.5, 0.5; got {text!r}.") from None


def _told(gr, error: Exception):
    """An error that the page shows as a sentence."""
    return gr.Error(str(error), duration=None, title="Sorry", print_exception=False)
