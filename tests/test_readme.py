"""Every Python block of the README runs as printed, from top to bottom, in one namespace."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.x64
def test_python_blocks_run(tmp_path, monkeypatch):
    text = README.read_text()
    monkeypatch.chdir(tmp_path)  # what a block writes does not land in the repository
    namespace = {"__name__": "readme"}
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(1))
        code = compile("\n" * line + block[1], str(README), "exec")  # a failure names the README's own line
        exec(code, namespace)


def test_blocks_are_found():
    text = "a\n```python\nx = 1\n```\nb\n```bash\nls\n```\n```python\ny = 2\n```\n"
    assert [block[1] for block in BLOCK.finditer(text)] == ["x = 1\n", "y = 2\n"]
