"""The Space's page: many users, bad input, nothing readable but results, and no other server asked."""

import json
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from neuron_vit3d import Volume, read_swc, synthetic_neuron, write_volume
from neuron_vit3d.inference import Segmenter
from support.tiny_models import tiny_model


pytest.importorskip("gradio", reason="gradio is not installed (extra app)")
pytest.importorskip("plotly", reason="plotly is not installed (extra app)")
pytestmark = pytest.mark.slow
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page with a model of random weights, which finds something everywhere."""
    patch = pytest.MonkeyPatch()
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        patch.setenv(name, "set anew by the page")
    from neuron_vit3d.apps.space.page import launch
    from neuron_vit3d.apps.space.work import Limits

    opened = launch(Segmenter(tiny_model(), tile_size=32, tile_overlap=8), Limits(1, 100_000, 60), block=False)
    yield opened
    opened.close()
    patch.undo()


@pytest.fixture
def stack(tmp_path):
    write_volume(tmp_path / "a.tif", Volume(synthetic_neuron((6, 40, 40), seed=3).volume.array, (2.0, 0.5, 0.5)))
    return tmp_path / "a.tif"


def client_of(page, folder):
    from gradio_client import Client

    return Client(page.local_url, verbose=False, download_files=str(folder), analytics_enabled=False)


def sent(client, path, channel="", size=""):
    from gradio_client import handle_file

    return client.predict(handle_file(str(path)), channel, size, api_name="/segment")


def test_a_stack_is_segmented_traced_anew_and_downloaded(page, stack, tmp_path, monkeypatch):
    client = client_of(page, tmp_path)
    threshold, *_ = sent(client, stack)
    assert 0 < threshold <= 1
    monkeypatch.setattr(Segmenter, "slabs", None)  # what follows needs no model
    said, plot, picture, _ = client.predict(threshold, 10, 0, api_name="/trace")
    assert ("long" in said or "There is no tree" in said) and Path(
        picture["path"] if isinstance(picture, dict) else picture
    )
    names = {Path(path).name: path for path in client.predict(api_name="/files")}
    assert {"a.mask.tif", "a.report.html"} <= set(names)
    if "long" in said:
        assert len(read_swc(names["a.swc"])) and json.loads(plot["plot"])["data"]


def test_stacks_and_results_are_deleted_when_nobody_used_them_for_long(page, stack, tmp_path):
    from neuron_vit3d.apps.space.page import sweep

    sent(client_of(page, tmp_path), stack)
    assert [path for path in page.home.rglob("*") if path.name == "a.tif"] and list(page.home.glob("session-*"))
    sweep(page.home, 600)
    assert list(page.home.glob("session-*"))
    sweep(page.home, -1)
    assert list(page.home.iterdir()) == []
    assert sent(client_of(page, tmp_path), stack)


def test_bad_input_is_a_sentence_and_the_next_is_served(page, stack, tmp_path):
    from gradio_client.exceptions import AppError

    client = client_of(page, tmp_path)
    (tmp_path / "no.tif").write_text("no image")
    np.save(tmp_path / "big.npy", np.zeros((10, 200, 100), np.uint8))
    np.save(tmp_path / "two.npy", np.zeros((2, 4, 8, 8), np.uint8))
    for path, more, said in (
        (tmp_path / "no.tif", {}, "This file cannot be read as an image stack"),
        (tmp_path / "big.npy", {}, "The stack has 0.2 million voxels"),
        (tmp_path / "two.npy", {}, "has 2 channels"),
        (stack, {"channel": "one"}, "Expected the number of a channel"),
        (stack, {"size": "1, 2"}, "Expected a voxel size"),
    ):
        with pytest.raises(AppError, match=said) as told:
            sent(client, path, **more)
        assert str(page.home) not in str(told.value)
    with pytest.raises(AppError, match="Nothing is segmented yet"):
        client_of(page, tmp_path).predict(0.5, 3, 0, api_name="/trace")
    assert sent(client, stack)


def test_a_file_that_is_too_large_is_not_taken(page, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(2_000_000, np.uint8))
    with pytest.raises(Exception, match=r"413|too large|maximum|exceed"):
        sent(client_of(page, tmp_path), tmp_path / "a.npy")


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../../etc/passwd", __file__, sys.executable])
def test_no_file_of_the_server_is_read(page, path):
    for place in ("gradio_api/file=", "file=", "gradio_api/file/"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{page.local_url}{place}{path}")
        assert refused.value.code in (403, 404)


def test_a_forged_upload_is_not_read(page):
    """A path that was never uploaded, sent as one by hand."""
    forged = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}, "orig_name": "a.tif"}
    place, head = f"{page.local_url}gradio_api/call/segment", {"Content-Type": "application/json"}
    request = urllib.request.Request(place, json.dumps({"data": [forged, "", ""]}).encode(), head)
    event = json.load(urllib.request.urlopen(request))["event_id"]
    said = urllib.request.urlopen(f"{place}/{event}").read().decode()
    assert "event: error" in said and "root:" not in said and "begins with" not in said


def test_twenty_stacks_at_once_are_all_served(page, stack, tmp_path):
    clients = [client_of(page, tmp_path / str(i)) for i in range(20)]
    with ThreadPoolExecutor(20) as pool:
        thresholds = [result[0] for result in pool.map(lambda client: sent(client, stack), clients)]
    assert len(set(thresholds)) == 1 and len(thresholds) == 20


def test_the_page_in_a_browser_asks_no_other_server(page, stack):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip("there is no Chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"],
        )
        tab, asked, wrong = browser.new_page(), [], []
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.goto(page.local_url)
        tab.set_input_files("input[type=file]", str(stack))
        tab.get_by_role("button", name="Segment", exact=True).click()
        tab.get_by_text("Left out").or_(tab.get_by_text("nodes")).or_(
            tab.get_by_text("There is no tree")
        ).first.wait_for(timeout=60_000)
        tab.get_by_role("button", name="Make files to download").click()
        tab.get_by_text("a.report").first.wait_for(timeout=60_000)
        browser.close()
    own = (page.local_url, page.local_url.replace("http", "ws"), "data:", "blob:")
    assert len(asked) > 5 and [url for url in asked if not url.startswith(own)] == [] and wrong == []
