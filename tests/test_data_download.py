"""The downloader against a server on this machine."""

import hashlib
import http.server
import io
import sys
import threading
import zipfile
from dataclasses import replace

import pytest

from recsys import download, sources
from recsys.download import PUBLISHED, Published, fetch_file
from recsys.errors import UsageError

BODY = b"".join(b"%d 1 2 3 4 5\n" % user for user in range(1, 20001))


@pytest.fixture
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        asked = 0

        def do_GET(self):
            Handler.asked += 1
            body = {"/good.txt": BODY, "/short.txt": BODY, "/bad.txt": BODY[:-9], "/pack.zip": packed()}.get(
                self.path
            )
            if body is None:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: 1000 if self.path == "/short.txt" else None])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        Handler.url = f"http://127.0.0.1:{running.server_port}"
        yield Handler
        running.shutdown()


def packed():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("folder/u.data", BODY)
    return buffer.getvalue()


def published(server, path="/good.txt", **options):
    return Published(server.url + path, "good.txt", len(BODY), hashlib.sha256(BODY).hexdigest(), **options)


def test_downloaded_once_then_cached(server, tmp_path):
    path = fetch_file(published(server), tmp_path / "cache")
    assert path.read_bytes() == BODY and server.asked == 1
    assert fetch_file(published(server), tmp_path / "cache") == path and server.asked == 1
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["good.txt"]


def test_a_member_of_an_archive(server, tmp_path):
    path = fetch_file(published(server, "/pack.zip", member="folder/u.data"), tmp_path)
    assert path.read_bytes() == BODY
    with pytest.raises(UsageError, match="no item named 'folder/v.data'.*archive"):
        fetch_file(replace(published(server, "/pack.zip", member="folder/v.data"), file="other"), tmp_path)


@pytest.mark.parametrize(
    ("path", "said"), [("/bad.txt", "SHA-256"), ("/short.txt", "1000 of"), ("/gone.txt", "Not Found")]
)
def test_nothing_is_left_of_a_failed_download(server, tmp_path, path, said):
    with pytest.raises(UsageError, match=said) as error:
        fetch_file(published(server, path), tmp_path)
    assert str(tmp_path / "good.txt") in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_error_says_which_file_to_put_where(tmp_path):
    wanted = Published("http://127.0.0.1:9/Beauty.txt", "Beauty.txt", 123, "ab" * 32)
    with pytest.raises(UsageError) as error:
        fetch_file(wanted, tmp_path)
    assert all(
        part in str(error.value)
        for part in (wanted.url, "123 bytes", "ab" * 32, str(tmp_path / "Beauty.txt"))
    )


def test_a_damaged_cache_is_not_used(server, tmp_path):
    (tmp_path / "good.txt").write_bytes(b"1 2 3\n")
    with pytest.raises(UsageError, match="delete it"):
        fetch_file(published(server), tmp_path)
    assert server.asked == 0


def test_known_names_come_from_the_cache_folder(server, tmp_path, monkeypatch):
    monkeypatch.setenv("SEQAUG_DATA", str(tmp_path / "mine"))
    monkeypatch.setitem(PUBLISHED, "Beauty", published(server))
    data = sources.load("Beauty", quiet=True)
    assert (data.name, len(data.rows), data.num_items) == ("Beauty", 20000, 5)
    assert (tmp_path / "mine" / "good.txt").exists()


def test_ml_100k_from_an_installed_recbole_without_importing_it(tmp_path, monkeypatch):
    home = tmp_path / "recbole" / "dataset_example" / "ml-100k"
    home.mkdir(parents=True)
    (tmp_path / "recbole" / "__init__.py").write_text("raise RuntimeError('imported')")
    rows = [f"u{user}\ti{item}\t5\t{item}" for user in range(5) for item in range(5)]
    (home / "ml-100k.inter").write_text(
        "\n".join(["user_id:token\titem_id:token\trating:float\ttimestamp:float", *rows])
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "recbole", raising=False)
    monkeypatch.setenv("SEQAUG_DATA", str(tmp_path / "cache"))
    assert download.installed_ml_100k() == home / "ml-100k.inter"
    data = sources.load("ml-100k", quiet=True)
    assert (data.name, len(data.rows), data.num_items) == ("ml-100k", 5, 5)
    assert "recbole" not in sys.modules and not (tmp_path / "cache").exists()
