"""Files that are written whole or not at all, and what is not a file."""

import errno
import os

import numpy as np
import pytest

import pruning
from pruning.files.writing import this_writer, write_atomically, writer_of

MASKS = {"w": np.eye(3) > 0}


@pytest.mark.parametrize("device", ["/dev/full", "/dev/null"])
def test_a_device_is_refused_and_stays(device):
    before = os.stat(device)
    with pytest.raises(ValueError, match=f"expected a file to write at {device}, got a device"):
        pruning.save_masks(device, MASKS)
    assert os.stat(device).st_mode == before.st_mode


def test_a_folder_and_a_pipe_are_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("folder", "pipe", "link"):
        with pytest.raises(ValueError, match=f"expected a file to write at .*{name}, got a"):
            pruning.save_masks(tmp_path / name, MASKS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link", "pipe"]


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere/masks")
    for seed in (1, 2):  # The first time there is nothing there yet.
        pruning.save_masks(tmp_path / "link", MASKS, {"seed": seed})
        assert (tmp_path / "link").is_symlink()
        assert pruning.load_metadata(tmp_path / "elsewhere" / "masks") == {"seed": seed}
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


def test_a_link_in_a_circle(tmp_path):
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(OSError, match="link'"):
        pruning.save_masks(tmp_path / "link", MASKS)


@pytest.mark.parametrize("failing", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
def test_an_interrupted_write_or_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, failing, error):
    """The full disk is told in one line that names the file."""
    path = tmp_path / "masks.safetensors"
    pruning.save_masks(path, MASKS, {"seed": 1})

    def fail(*args, **knobs):
        raise error

    said = {OSError: r"^\[Errno 28\] No space left on device: '.*masks.safetensors'$"}.get(type(error))
    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        with pytest.raises(type(error), match=said):
            pruning.save_masks(path, {"w": np.eye(2) > 0}, {"seed": 2})
    assert pruning.load_metadata(path) == {"seed": 1}
    np.testing.assert_array_equal(pruning.load_masks(path)["w"], MASKS["w"])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_cannot_be_made_and_a_name_that_is_too_long(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=r"file/inside/masks'$"):
        pruning.save_masks(tmp_path / "file" / "inside" / "masks", MASKS)
    with pytest.raises(OSError, match=r"too long: '.*xxx'$"):
        pruning.save_masks(tmp_path / ("x" * 300), MASKS)


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "a.b", "."])
def test_the_hidden_file_says_who_writes_it(tmp_path, monkeypatch, name):
    """Also for a name that is as long as names may be."""
    path = tmp_path / name if name != "." else tmp_path / "...."
    seen, replace = [], os.replace

    def spy(temporary, target):
        seen.extend(tmp_path.iterdir())
        replace(temporary, target)

    monkeypatch.setattr(os, "replace", spy)
    write_atomically(path, b"content")
    assert [writer_of(file) for file in seen] == [this_writer()]
    assert writer_of(path) is None
    assert path.read_bytes() == b"content"


def test_it_is_written_though_somebody_removes_the_hidden_file(tmp_path, monkeypatch):
    replace, removed = os.replace, []

    def remove_first(temporary, target):
        if not removed:
            os.unlink(temporary)
            removed.append(temporary)
        replace(temporary, target)

    monkeypatch.setattr(os, "replace", remove_first)
    write_atomically(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_file_that_is_replaced_stays_as_private_as_it_was(tmp_path, mode):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == mode


def test_a_new_file_has_the_mode_of_the_process(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file", b"content")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
