"""Files are the old ones or the new ones."""

import os
import stat
from pathlib import Path

import pytest

from fashion_mnist.system import atomic


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="half way"), atomic.replacing(path) as temporary:
        temporary.write_bytes(b"ne")
        raise RuntimeError("half way")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_success_replaces_it_and_makes_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "card.json"
    atomic.write_text(path, "{}")
    atomic.write_text(path, "[]")
    assert path.read_text() == "[]"
    assert list(path.parent.iterdir()) == [path]


def test_it_is_as_readable_as_any_other_file(tmp_path: Path) -> None:
    atomic.write_bytes(tmp_path / "atomic", b"")
    (tmp_path / "ordinary").touch()
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_file_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    atomic.write_text(path, "{}")
    path.chmod(0o640)
    umask = os.umask(0o077)
    try:
        atomic.write_text(path, "[]")
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_stays_one_and_its_target_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "mounted" / "keys.json", tmp_path / "keys.json"
    target.parent.mkdir()
    target.write_text("old")
    link.symlink_to(target)
    atomic.write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "keys.json"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="not a regular file"):
        atomic.read_regular(pipe)
