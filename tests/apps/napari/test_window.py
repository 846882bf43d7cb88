"""The plugin in a real window with software OpenGL, by the mouse and by keys; where there is an X server to start."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from support.places import REPOSITORY


pytest.importorskip("napari", reason="needs napari (make test-apps)")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("xvfb-run") is None, reason="needs xvfb-run")
def test_every_step_is_seen_in_a_real_window(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "QT_QPA_PLATFORM"}
    environment |= {"LIBGL_ALWAYS_SOFTWARE": "1", "PYTHONPATH": str(REPOSITORY / "src")}
    script = str(REPOSITORY / "benchmarks" / "napari_window.py")
    done = subprocess.run(
        ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24", sys.executable, script, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if "Qt platform plugin" in done.stderr:
        pytest.skip("needs the libraries of Qt's xcb plugin (libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1)")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "ERROR" not in done.stderr + done.stdout
    assert "closed while it worked" in done.stdout
    pictures = sorted(tmp_path.glob("*.png"))
    assert [picture.name[0] for picture in pictures] == list("1234567")
    for picture in pictures:
        assert np.asarray(Image.open(picture).convert("RGB")).std() > 20, picture.name
    # The branch to look at is cyan, which nothing else is.
    for number, seen in ((1, False), (3, True), (5, True)):
        r, g, b = np.moveaxis(np.asarray(Image.open(pictures[number - 1]).convert("RGB")).astype(int), -1, 0)
        assert ((r < 60) & (g > 200) & (b > 200)).any() == seen, pictures[number - 1].name
