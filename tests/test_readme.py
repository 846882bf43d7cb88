"""The README's tables are the reports', and what it points to is there."""

import importlib.util
import re
from pathlib import Path


REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text()


def test_its_tables_are_those_of_the_reports():
    spec = importlib.util.spec_from_file_location("update_readme", REPOSITORY / "scripts" / "update_readme.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert README.count("<!-- reports/") == README.count("<!-- end -->") >= 5
    assert script.with_reports(README) == README


def test_its_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_its_tree_names_files_that_exist():
    tree = README[README.index("## The tree of files") :]
    for name in set(re.findall(r"\b(\w+\.py)\b", tree)):
        found = list((REPOSITORY / "src").rglob(name)) + list((REPOSITORY / "scripts").glob(name))
        assert found, name
