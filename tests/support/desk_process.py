"""A real `label-serve --review` in a real process, and what a program says of photos there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from models.artifact import Artifact
from pipeline.reviews.review_file import reviews_path
from pipeline.reviews.reviewed_labels import confirmed_labels
from tests.support.serve_process import Answer, LabelServe


class DeskServe(LabelServe):
    """The desk of the table `out.parquet` of the folder `photos`, both in `folder`."""

    def __init__(self, folder: Path, model: Artifact, *options: str) -> None:
        self.table = folder / "out.parquet"
        self.photos = folder / "photos"
        desk = ("--review", str(self.table), "--photos", str(self.photos), "-m", str(model.path))
        super().__init__(folder, *desk, *options, env={"XDG_CACHE_HOME": str(folder / "cache")})

    @property
    def port(self) -> int:
        """The port of the address, which is followed by the path of the desk."""
        return int(self.url.removesuffix("/desk/").rpartition(":")[2])

    def queue(self, **query: object) -> list[dict[str, Any]]:
        """Return the photos that the desk names first."""
        path = "/desk/api/queue?" + "&".join(f"{name}={value}" for name, value in query.items())
        found: list[dict[str, Any]] = self.request("GET", path).json["photos"]
        return found

    def say(self, request_id: str, *decisions: dict[str, Any], **fields: object) -> Answer:
        """Return the answer to a request with `decisions`."""
        body = json.dumps({"request_id": request_id, "decisions": decisions, **fields}).encode()
        return self.request("POST", "/desk/api/reviews", body, {"Content-Type": "application/json"})

    def reviewed(self) -> dict[str, str]:
        """Return the label that was said of each photo, by its sha256, as the reviews file has it."""
        return dict(confirmed_labels(reviews_path(self.table)))


def sha256_of(photo: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    return hashlib.sha256(photo.read_bytes()).hexdigest()
