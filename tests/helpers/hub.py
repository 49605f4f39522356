"""A hub on the loopback: as much of Hugging Face's protocol as its package needs to load and store files."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Files = dict[str, bytes]


@dataclass
class Hub:
    """Repositories by name; of each its commits, oldest first, and which are private.

    Attributes:
        asked: every request, as `GET /path`.
        refuses: whether it takes nothing in, as it does of strangers.
    """

    url: str = ""
    commits: dict[str, list[tuple[str, Files]]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    messages: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    refuses: bool = False

    def commit(self, repo: str, changed: Files) -> str:
        """Add a commit with these files changed; its hash."""
        commits = self.commits.setdefault(repo, [])
        files = (commits[-1][1] if commits else {}) | changed
        sha = hashlib.sha1(repr((repo, len(commits))).encode()).hexdigest()
        commits.append((sha, files))
        return sha

    def files(self, repo: str, revision: str) -> tuple[str, Files] | None:
        """A commit by its hash, or the newest as `main`."""
        commits = self.commits[repo]
        return commits[-1] if revision == "main" else next((each for each in commits if each[0] == revision), None)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        repo, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if repo not in self.hub.commits:
            return self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        found = self.hub.files(repo, revision)
        if found is None:
            return self._answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        sha, files = found
        if name not in files:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha}
            return self._answer(404, {"error": "Entry not found"}, headers)
        etag = f'"{hashlib.sha1(files[name]).hexdigest()}"'
        return self._answer(200, files[name], {"X-Repo-Commit": sha, "ETag": etag})

    def do_POST(self) -> None:
        self.hub.asked.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.hub.refuses:
            return self._answer(401, {"error": "Invalid username or password."})
        if self.path == "/api/repos/create":
            return self._create(json.loads(body))
        if self.path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        repo = "/".join(self.path.split("/")[3:5])
        if "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for file in json.loads(body)["files"]
            ]
            return self._answer(200, {"files": files})
        changed = {}
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "header":
                self.hub.messages.append(line["value"]["summary"])
            else:
                changed[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        sha = self.hub.commit(repo, changed)
        return self._answer(200, {"commitOid": sha, "commitUrl": f"{self.hub.url}/{repo}/commit/{sha}"})

    def _create(self, asked: dict[str, Any]) -> None:
        repo = f"{asked['organization']}/{asked['name']}"
        if repo in self.hub.commits:
            return self._answer(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{repo}"})
        self.hub.commit(repo, {})
        if asked.get("private") or asked.get("visibility") == "private":
            self.hub.private.add(repo)
        return self._answer(200, {"url": f"{self.hub.url}/{repo}", "name": repo})

    def _answer(self, status: int, content: bytes | dict[str, Any], headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def running() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
