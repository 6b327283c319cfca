"""Attacks on files with seeded damages: nothing that is damaged is read as whole, and each is answered by one line."""

import json
import os
import struct

import numpy as np
import pytest
import scipy.io
import xarray as xr

from superpose import results
from superpose.settings import Diagram
from superpose.sweep import chunks

pytestmark = pytest.mark.x64

DIAGRAM = Diagram(densities=3, importances=2)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A small finished result like a diagram's, and its bytes."""
    cell, numbers = ("density", "importance"), np.random.default_rng(0)
    dataset = xr.Dataset(
        {
            "loss": ((*cell, "restart"), numbers.random((3, 2, 2)), {"long_name": "sum_i importance_i E (x_i - x'_i)^2"}),
            "label": ((*cell, "feature"), numbers.integers(0, 3, (3, 2, 2), np.int8)),
            "best": (cell, numbers.integers(0, 2, (3, 2), np.int32)),
        },
        coords={"density": np.geomspace(1, 0.01, 3), "importance": [0.1, 10.0]},
        attrs={"n": 2, "starts": "2 random"},
    )
    path = tmp_path_factory.mktemp("result") / "phase.nc"
    results.save(path, dataset, DIAGRAM, seconds=1.5)
    return path, dataset, path.read_bytes()


def refused(path, content):
    path.write_bytes(content)
    line = r"phase\.nc: .*(move it away to compute it again|another version)$"
    with pytest.raises(results.ResultError, match=line) as told:
        results.load(path)
    assert "\n" not in str(told.value)


def header(content):
    """Bytes before the first variable's numbers."""
    return content.index(np.geomspace(1, 0.01, 3).astype(">f8").tobytes())


def word(content, rng, end):
    """One four-byte word of the first `end` bytes is another: counts, lengths, types, offsets, letters."""
    at = 4 * int(rng.integers(end // 4))
    value = rng.choice([0, 1, 2, 5, 10, 11, 12, 2**31 - 1, 2**31, 2**32 - 1, rng.integers(2**32)])
    return content[:at] + struct.pack(">I", value) + content[at + 4 :]


def bit(content, rng):
    at = int(rng.integers(8 * len(content)))
    return content[: at // 8] + bytes([content[at // 8] ^ 1 << at % 8]) + content[at // 8 + 1 :]


def block(content, rng):
    """A run of bytes is noise, zeros, lost, doubled, or moved to the end."""
    start, stop = sorted(int(x) for x in rng.integers(len(content), size=2))
    there = content[start:stop]
    other = [rng.bytes(stop - start), bytes(stop - start), b"", 2 * there][rng.integers(4)]
    return content[:start] + other + content[stop:] + there * int(rng.integers(2))


DAMAGES = {
    "bits": (400, bit),
    "header words": (300, lambda content, rng: word(content, rng, header(content))),
    "words": (100, lambda content, rng: word(content, rng, len(content))),
    "cut short": (150, lambda content, rng: content[: rng.integers(len(content))]),
    "longer": (50, lambda content, rng: content + rng.bytes(int(rng.integers(1, 100)))),
    "blocks": (300, block),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_result_is_never_read_as_whole(result, tmp_path, kind):
    _, _, whole = result
    trials, damage = DAMAGES[kind]
    rng, done = np.random.default_rng(len(kind)), 0
    while done < trials:
        if (content := damage(whole, rng)) != whole:
            refused(tmp_path / "phase.nc", content)
            done += 1


def test_bits_of_format_and_checksum_count(result, tmp_path):
    """Also those that tell an older file, which has no checksum, from a newer one: every third bit, so two or three a byte."""
    _, _, whole = result
    for text in (results.SEAL + bytes(4), b"\0\0\0\x06format\0\0" + bytes(8) + results.FORMAT.encode()):
        start = whole.index(text[:12])
        for at in range(8 * start, 8 * (start + len(text)), 3):
            flipped = whole[: at // 8] + bytes([whole[at // 8] ^ 1 << at % 8]) + whole[at // 8 + 1 :]
            refused(tmp_path / "phase.nc", flipped)


def test_sealed_file_is_plain_netcdf(result):
    path, dataset, _ = result
    xr.testing.assert_identical(results.load(path).drop_attrs(deep=False), dataset.drop_attrs(deep=False))
    with xr.open_dataset(path, engine="scipy") as plain:
        assert len(plain.attrs["file_sha256"]) == 64
        xr.testing.assert_identical(plain.load(), results.load(path))
    with scipy.io.netcdf_file(path, mmap=False) as plain:
        np.testing.assert_array_equal(plain.variables["loss"][:], dataset["loss"])
        assert json.loads(plain.settings)["densities"] == 3


def test_file_of_the_version_before_is_read(result, tmp_path):
    """It has another format and no checksum."""
    path, dataset, _ = result
    attrs = results.load(path).attrs | {"format": "superpose results 1"}
    del attrs["file_sha256"]
    old = dataset.assign_attrs(attrs)
    old.to_netcdf(tmp_path / "phase.nc", engine="scipy")
    xr.testing.assert_identical(results.load(tmp_path / "phase.nc"), old)
    refused(tmp_path / "phase.nc", (tmp_path / "phase.nc").read_bytes().replace(b"results 1", b"results 2"))


def in_the_way(kind, path, target):
    """Put something that is no file where a file is expected."""
    path.unlink(missing_ok=True)
    match kind:
        case "folder":
            (path / "below").mkdir(parents=True)
        case "link to a folder":
            target.mkdir()
            path.symlink_to(target)
        case "loop":
            path.symlink_to(path)
        case "dangling link":
            path.symlink_to(target)
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")


IN_THE_WAY = ("folder", "link to a folder", "loop", "dangling link", "pipe", "device")


@pytest.mark.parametrize("kind", IN_THE_WAY)
def test_what_is_no_file_is_named_and_left(tmp_path, kind):
    path = tmp_path / "phase.nc"
    in_the_way(kind, path, tmp_path / "target")
    with pytest.raises(results.ResultError, match=r"phase\.nc: damaged or not a results file \(.+\); move it away"):
        results.load(str(path))
    assert os.path.lexists(path)


@pytest.mark.parametrize("kind", IN_THE_WAY)
def test_chunk_is_written_in_place_of_anything(tmp_path, kind):
    path, arrays = tmp_path / "x-000001.npz", {"a": np.arange(3)}
    in_the_way(kind, path, tmp_path / "target")
    with pytest.raises(FileNotFoundError if kind == "dangling link" else results.ResultError):
        chunks.read(path)
    chunks.write(path, arrays)
    np.testing.assert_array_equal(chunks.read(path)["a"], arrays["a"])
    assert not path.is_symlink()


def test_folder_named_like_a_temporary_file_stays(tmp_path):
    path = tmp_path / "file"
    for name in (f".file.{os.getpid()}", ".file.7"):
        (tmp_path / name / "mine").mkdir(parents=True)
    before = set(tmp_path.iterdir())
    results.write_atomically(path, lambda temporary: temporary.write_text("new"))
    results.remove_temporaries(path)
    assert set(tmp_path.iterdir()) == before | {path}


def test_temporary_link_is_not_followed(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / f".file.{os.getpid()}").symlink_to(mine)
    results.write_atomically(tmp_path / "file", lambda temporary: temporary.write_text("new"))
    assert mine.read_text() == "mine"
    assert not (tmp_path / "file").is_symlink()


MANIFEST = {"format": chunks.FORMAT, "width": 3, "settings": {"work": 1}, "points": "ab", "program": "cd"}


@pytest.mark.parametrize("width", [0, -1, 10**30, None, True, "3", [3], 4, 3.5])
def test_altered_manifest_is_named(tmp_path, width):
    chunks.write_manifest(tmp_path, MANIFEST)
    assert chunks.read_manifest(tmp_path) == MANIFEST
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"width": width}))
    with pytest.raises(results.ResultError, match=rf"sweep\.json: damaged; delete {tmp_path} to compute its chunks again$"):
        chunks.read_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b"3", b"[1, 2]", b"", b"null", b"{}" * 2])
def test_foreign_manifest_is_named(tmp_path, content):
    (tmp_path / "sweep.json").write_bytes(content)
    with pytest.raises(results.ResultError, match=r"sweep\.json: damaged; delete .* to compute its chunks again$"):
        chunks.read_manifest(tmp_path)


@pytest.mark.parametrize("kind", [kind for kind in IN_THE_WAY if kind != "dangling link"])
def test_manifest_that_is_no_file_is_named(tmp_path, kind):
    in_the_way(kind, tmp_path / "sweep.json", tmp_path / "target")
    with pytest.raises(results.ResultError, match=r"sweep\.json: damaged; delete .* to compute its chunks again$"):
        chunks.read_manifest(tmp_path)
