"""Every Python block of the README runs as printed, from top to bottom, in one namespace."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.x64
@pytest.mark.slow
def test_python_blocks_run(tmp_path):
    """In a process of its own: as a reader runs them, without the suite's type checks."""
    text = README.read_text()
    lines = [""] * text.count("\n")
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        code = block[1].splitlines()
        lines[first : first + len(code)] = code  # a traceback names the README's own line
    script = tmp_path / "readme.py"
    script.write_text("\n".join(lines))
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr


@pytest.mark.x64
def test_blocks_are_found():
    text = "a\n```python\nx = 1\n```\nb\n```bash\nls\n```\n```python\ny = 2\n```\n"
    assert [block[1] for block in BLOCK.finditer(text)] == ["x = 1\n", "y = 2\n"]
