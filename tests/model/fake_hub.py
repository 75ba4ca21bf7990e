"""A model hub on this machine, and a hub's cache, for tests that must not ask the real one."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

from esa_pytest.baselines.sources import HubModel

TWINS = Path(__file__).resolve().parents[1] / "twins"
MODEL = HubModel(repo="somebody/a-model", revision="0123456789abcdef0123456789abcdef01234567")
_API = f"/api/models/{MODEL.repo}"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An answer that is none: its status, and what the hub calls it in X-Error-Code."""

    status: int
    code: str = ""
    message: str = ""


@dataclass(kw_only=True)
class FakeHub:
    """What the hub holds of `MODEL`, and what it was asked for.

    Attributes:
        files: of the repository.
        gated: as the hub says it of a repository.
        of_repository: how questions about the repository are refused.
        of_files: how every file is refused.
        asked: the method and path of each question.
        endpoint: where it answers.
        missing: files that are listed and cannot be had.
        hangs_up: whether it ends the connection in place of an answer about the repository.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    gated: str | bool = False
    of_repository: Refusal | None = None
    of_files: Refusal | None = None
    asked: list[str] = field(default_factory=list)
    endpoint: str = ""
    missing: set[str] = field(default_factory=set)
    hangs_up: bool = False

    def answer(self, path: str) -> tuple[dict[str, str], bytes] | Refusal | None:
        """Headers and content of a path; None for no answer at all."""
        if path.startswith("/api/"):
            if self.hangs_up:
                return None
            return self.of_repository or self._api(path)
        if path == "/":
            return {}, b"a hub"
        name = path.partition(f"/resolve/{MODEL.revision}/")[2]
        if self.of_files is not None:
            return self.of_files
        if name not in self.files or name in self.missing:
            return Refusal(status=404, code="EntryNotFound", message="Entry not found")
        return {"ETag": f'"{_etag(self.files[name])}"', "X-Repo-Commit": MODEL.revision}, self.files[name]

    def _api(self, path: str) -> tuple[dict[str, str], bytes] | Refusal:
        if path == f"{_API}/revision/{MODEL.revision}":
            siblings = [{"rfilename": name} for name in self.files]
            return _json(
                {"id": MODEL.repo, "sha": MODEL.revision, "private": False, "gated": self.gated, "siblings": siblings}
            )
        if path.startswith(f"{_API}/tree/"):
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": _etag(content)}
                for name, content in self.files.items()
            ]
            return _json(entries)
        return Refusal(status=404)


def _json(content: Any) -> tuple[dict[str, str], bytes]:
    return {"Content-Type": "application/json"}, json.dumps(content).encode()


def _etag(content: bytes) -> str:
    return sha1(content, usedforsecurity=False).hexdigest()


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Answer at `hub.endpoint` while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            found = hub.answer(path)
            if found is None:
                self.close_connection = True
                return
            if isinstance(found, Refusal):
                headers = {"X-Error-Code": found.code, "X-Error-Message": found.message}
                content = json.dumps({"error": found.message}).encode()
                self.send_response(found.status)
            else:
                headers, content = found
                self.send_response(200)
            for name, value in headers.items():
                if value:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815  (named by http.server)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (named by http.server)
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def point_to(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take this for the hub."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")


def twin_files(name: str) -> dict[str, bytes]:
    """The files of a committed twin."""
    return {path.name: path.read_bytes() for path in sorted((TWINS / name).iterdir())}


def put_in_cache(cache: Path, model: HubModel, content: Path) -> Path:
    """Lay a checkpoint folder where the hub's cache would have the model; returns the snapshot."""
    snapshot = cache / f"models--{model.repo.replace('/', '--')}" / "snapshots" / model.revision
    shutil.copytree(content, snapshot)
    return snapshot
