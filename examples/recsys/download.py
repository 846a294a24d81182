"""Published data sets by name: downloaded once, checked by SHA-256, cached."""

from __future__ import annotations

import hashlib
import http.client
import importlib.util
import os
import shutil
import tempfile
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from recsys.errors import UsageError

BASREC = (
    "https://raw.githubusercontent.com/KingGugu/BASRec/8de47953cde941763c51279670ec877df9b79113/SASRec/data/"
)
BLOCK = 1 << 16
TIMEOUT = 30  # seconds without an answer


@dataclass(frozen=True)
class Published:
    """A file of a data set: where it is, what it must be. ``member`` is its path in a zip archive at ``url``."""

    url: str
    file: str
    size: int
    sha256: str
    member: str | None = None


PUBLISHED = {
    "Beauty": Published(
        BASREC + "Beauty.txt", "Beauty.txt", 1090094,
        "226cce9c3105299ca0db9615d7d3fb32b3175e90da43100ae352599f0f0107b8",
    ),
    "Sports": Published(
        BASREC + "Sports_and_Outdoors.txt", "Sports_and_Outdoors.txt", 1707483,
        "2a095e0648872beb9982408958290f5d655db5be2911c3756b5446de9f0b8de2",
    ),
    "Yelp": Published(
        BASREC + "Yelp.txt", "Yelp.txt", 1814224,
        "724b219106b81dd2349027da997334ddb6da9fe2f152ad6e0d97a93170f7caed",
    ),
    "Home": Published(
        BASREC + "Home.txt", "Home.txt", 3440439,
        "4e472251e8bcd204fc3421c51ab7d10611a69da8e7cf313c327e0cd003a5f0dd",
    ),
    "ml-100k": Published(
        "https://files.grouplens.org/datasets/movielens/ml-100k.zip", "ml-100k.data", 1979173,
        "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490", member="ml-100k/u.data",
    ),
}  # fmt: skip


def cache_folder() -> Path:
    """``$SEQAUG_DATA``, or ``~/.cache/seqaug``."""
    named = os.environ.get("SEQAUG_DATA")
    return Path(named) if named else Path.home() / ".cache" / "seqaug"


def fetch(name: str, quiet: bool = False) -> Path:
    """The cached file of a published data set, downloaded if it is not there."""
    return fetch_file(PUBLISHED[name], cache_folder(), quiet)


def fetch_file(published: Published, folder: Path, quiet: bool = False) -> Path:
    """The checked file in ``folder``; it appears there whole or not at all."""
    path = folder / published.file
    if path.exists():
        found = sha256(path)
        if found == published.sha256:
            return path
        raise UsageError(
            f"expected {path} to have SHA-256 {published.sha256}, got {found}; delete it to have it downloaded again"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as parts:
            part = Path(parts) / "file"
            _download(published.url, part, quiet)
            if published.member is not None:
                part = _unpack(part, published.member, Path(parts) / "member")
            found = sha256(part)
            if found != published.sha256:
                raise UsageError(
                    f"expected {published.url} to have SHA-256 {published.sha256} ({published.size} bytes), got {found} "
                    f"({part.stat().st_size} bytes); try again, or put the right file at {path}"
                )
            os.replace(part, path)
    except (OSError, http.client.HTTPException, zipfile.BadZipFile, KeyError) as error:
        reason = getattr(error, "reason", None) or error
        raise UsageError(
            f"expected to download {published.url}, got {reason}; put the file ({published.size} bytes, SHA-256 "
            f"{published.sha256}) at {path}"
            + (f" (it is {published.member} in the archive)" if published.member else "")
        ) from None
    return path


def _download(url: str, part: Path, quiet: bool) -> None:
    request = urllib.request.Request(url, headers={"User-Agent": "seqaug"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer, open(part, "wb") as file:
        size = int(answer.headers.get("Content-Length") or 0)
        with tqdm(
            total=size or None, desc=url.rsplit("/", 1)[1], unit="B", unit_scale=True, leave=False,
            disable=True if quiet else None,
        ) as bar:  # fmt: skip
            done = 0
            while block := answer.read(BLOCK):
                done += file.write(block)
                bar.update(len(block))
    if size and done != size:
        raise OSError(f"{done} of {size} bytes")


def _unpack(archive: Path, member: str, to: Path) -> Path:
    with zipfile.ZipFile(archive) as bundle, bundle.open(member) as source, open(to, "wb") as target:
        shutil.copyfileobj(source, target)
    return to


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def installed_ml_100k() -> Path | None:
    """The copy of MovieLens-100k inside an installed recbole, which is found but not imported."""
    spec = importlib.util.find_spec("recbole")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "dataset_example" / "ml-100k" / "ml-100k.inter"
        if path.is_file():
            return path
    return None
