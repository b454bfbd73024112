"""What README and docs/ show is what happens: documents are valid, and commands print what stands below them."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest
import yaml

from profiled_spawner import cli
from profiled_spawner.parsing import check_document

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[pytest.ParameterSet]:
    found = []
    for page in PAGES:
        fenced = re.findall(rf"^( *)```{language}\n(.*?)^ *```", page.read_text(), re.DOTALL | re.MULTILINE)
        for number, (indent, text) in enumerate(fenced):
            body = re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
            found.append(pytest.param(body, id=f"{page.relative_to(ROOT)}-{number}"))
    return found


@pytest.mark.parametrize("text", blocks("yaml"))
def test_a_document_of_the_docs_is_valid(text: str) -> None:
    checked = check_document(text)
    assert checked.errors == ()
    assert checked.warnings == ()


@pytest.mark.parametrize("text", blocks("console"))
def test_a_command_of_the_docs_prints_what_is_shown(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("NO_COLOR", "1")
    for block in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, shown = block.replace("\\\n", " ").partition("\n")
        command, *arguments = shlex.split(line, comments=True)
        if command == "make":
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert arguments[0] in targets
            continue
        assert command == "profiled-spawner"
        assert cli.main(arguments) == os.EX_OK
        assert capsys.readouterr().out == shown


def test_the_readmes_document_is_the_one_to_deploy() -> None:
    (manifest,) = yaml.safe_load_all((ROOT / "deploy" / "configmap.yaml").read_text())
    (deployed,) = manifest["data"].values()
    shown = re.search(r"^```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert shown is not None
    assert yaml.safe_load(shown[1]) == yaml.safe_load(deployed)
