"""The whole suite in float64 (or float32 with SUPERPOSE_TEST_X64=0): no rank promotion, warnings are errors.

Compiled programs are kept in `.pytest_cache/jax`: for the next run, for tests side by side, and for the processes these start.
Nearly all time would go to compiling, so XLA hardly optimises, unless `XLA_FLAGS` says otherwise, as in `make test-all`.
"""

import os
import sys
from pathlib import Path

import jax
import pytest
from jaxtyping import install_import_hook

os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0" + " --xla_cpu_use_fusion_emitters=false" * (jax.__version_info__ < (0, 11)),
)  # the latter is unknown later on
X64 = os.environ.get("SUPERPOSE_TEST_X64", "1") != "0"
jax.config.update("jax_enable_x64", X64)
jax.config.update("jax_numpy_rank_promotion", "raise")
install_import_hook("superpose", "beartype.beartype")

KEPT = {
    "jax_compilation_cache_dir": str(Path(__file__).parent.parent / ".pytest_cache" / "jax"),
    "jax_persistent_cache_min_compile_time_secs": 0,  # small programs too: there are thousands
}
for option, value in KEPT.items():
    if not os.environ.get(option.upper()):
        os.environ[option.upper()] = str(value)  # for processes that tests start
        jax.config.update(option, value)


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture(scope="module")
def environment():
    """Commands share what they compile, with each other and with the tests, away from the user's own cache."""
    return dict(os.environ)


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command in this process, leaving its configuration of JAX out: exit code, standard output and error."""
    from superpose import cli
    from superpose.commands import run

    def called(*arguments):
        monkeypatch.setattr(run, "prepare", lambda _: None)
        monkeypatch.setattr(sys, "argv", ["superpose", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return stopped.value.code, *capsys.readouterr()

    return called


def pytest_collection_modifyitems(items):
    """Tests marked `x64` are left out of the float32 run."""
    if not X64:
        skip = pytest.mark.skip(reason="runs in float64")
        for item in items:
            if "x64" in item.keywords:
                item.add_marker(skip)
