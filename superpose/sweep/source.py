"""Digests of source code: whether what made a result is what is here now."""

import ast
import hashlib
from functools import cache
from pathlib import Path

from superpose.results import package_version


@cache
def library() -> str:
    """SHA-256 of this library's source files and of the versions of JAX and NumPy."""
    here = Path(__file__).parent.parent
    parts = [f"{name} {package_version(name)}".encode() for name in ("jax", "jaxlib", "numpy")]
    for path in sorted(here.rglob("*.py")):
        parts += [str(path.relative_to(here)).encode(), path.read_bytes()]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def reached(text: str, name: str) -> str:
    """SHA-256 of what is called `name` in a module's text, and of all that it refers to there.

    Layout, comments and docstrings do not count.
    """
    statements = _bare(ast.parse(text)).body
    found, waiting = set(), {name}
    while waiting:
        wanted = waiting.pop()
        for k, statement in enumerate(statements):
            if k not in found and wanted in _defined(statement):
                found.add(k)
                waiting |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    return hashlib.sha256("\n".join(ast.unparse(statements[k]) for k in sorted(found)).encode()).hexdigest()


def _bare(module: ast.Module) -> ast.Module:
    """Without docstrings, and what else is a text of its own."""
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [x for x in node.body if not _is_text(x)] or [ast.Pass()]
    return module


def _is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a string and nothing else."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _defined(statement: ast.stmt) -> set[str]:
    """The names that a statement of a module gives a meaning."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
