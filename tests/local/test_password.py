"""A password is made once; what others could have read or put there is not used."""

import os
import stat

from unet_pipeline.local.password import password_of


def test_it_is_made_once_and_found_again(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    first, second = password_of(tmp_path), password_of(tmp_path)
    assert (first.made, second.made) == (True, False)
    assert first.text == second.text
    assert first.text.split(":")[1] not in repr(first)
    assert stat.S_IMODE((tmp_path / "password").stat().st_mode) == 0o600


def test_the_environments_own_is_taken_and_not_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "me:mine")
    assert password_of(tmp_path).text == "me:mine"
    assert not [*tmp_path.iterdir()]


def test_one_that_others_could_read_or_choose_is_replaced(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    file, theirs = tmp_path / "password", tmp_path / "theirs"
    theirs.write_text("admin:theirs")
    theirs.chmod(0o600)
    for put in (
        lambda: (file.write_text("admin:theirs"), file.chmod(0o644)),
        lambda: file.symlink_to(theirs),
        lambda: os.mkfifo(file, 0o600),
        lambda: (file.write_text("no password"), file.chmod(0o600)),
    ):
        file.unlink(missing_ok=True)
        put()
        assert password_of(tmp_path).made
        assert "theirs" not in file.read_text()
    assert theirs.read_text() == "admin:theirs"
