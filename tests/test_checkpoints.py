"""Checkpoints: never half-written, and never read if they are not what was written."""

import errno
import os
import pickle

import pytest
import torch

from recsys.checkpoints import read_checkpoint, write_checkpoint
from recsys.errors import UsageError
from recsys.training import WholeFiles

CHECKPOINT = {"weights": torch.arange(300.0), "epoch": 3}


def test_what_was_written_is_read(tmp_path):
    file = tmp_path / "a.ckpt"
    write_checkpoint(file, CHECKPOINT)
    found = read_checkpoint(file, "weights", "epoch")
    assert found["epoch"] == 3 and torch.equal(found["weights"], CHECKPOINT["weights"])
    assert list(tmp_path.iterdir()) == [file]


def test_the_old_checkpoint_is_left_alone_until_the_new_one_is_whole(tmp_path, monkeypatch):
    file, old = tmp_path / "a.ckpt", tmp_path / "old.ckpt"
    file.write_bytes(b"the old one")
    os.link(file, old)  # another name of the same bytes: a copy onto them would change them

    def other_disk(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "rename", other_disk)  # as where the temporary folder is on another disk
    WholeFiles().save_checkpoint(CHECKPOINT, str(file))
    assert old.read_bytes() == b"the old one"
    assert WholeFiles().load_checkpoint(file, weights_only=True)["epoch"] == 3


def test_flipped_bits(tmp_path):
    """Each is seen, or where nothing depends on it."""
    file = tmp_path / "a.ckpt"
    write_checkpoint(file, CHECKPOINT)
    content = file.read_bytes()
    seen = 0
    for place in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        try:
            found = read_checkpoint(file, "weights", "epoch")
        except UsageError as error:
            assert "to be a whole checkpoint, got a damaged one (" in str(error)
            seen += 1
        else:
            assert found["epoch"] == 3 and torch.equal(found["weights"], CHECKPOINT["weights"])
    assert seen > 400  # those of the weights at least


def test_what_is_no_checkpoint(tmp_path):
    file = tmp_path / "a.ckpt"

    def said(*names):
        with pytest.raises(UsageError) as error:
            read_checkpoint(file, *names)
        assert str(error.value).startswith(f"expected {file} to be a whole checkpoint, got a damaged one (")
        return str(error.value)

    write_checkpoint(file, CHECKPOINT)
    assert "no callbacks in it" in said("epoch", "callbacks")
    file.write_bytes(file.read_bytes()[:-100])
    said()
    torch.save([1, 2], file)
    assert "no epoch in it" in said("epoch")
    torch.save({"epoch": ValueError("x")}, file)
    assert "weights_only" not in said("epoch") and "other objects than tensors" in said("epoch")
    file.write_bytes(pickle.dumps({"epoch": 3}))
    assert "weights_only" not in said("epoch")
    file.write_bytes(b"")
    said()
    file.unlink()
    file.mkdir()
    assert "Is a directory" in said()
