"""Files as versions before the checksums wrote them, for tests that change a file on purpose."""

import json
from pathlib import Path


def drop_checksums(folder: Path) -> None:
    """Take the checksums out of every JSON document below this folder, those of settings among them."""
    for path in folder.rglob("*.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(document, dict):
            kept = {key: value for key, value in document.items() if key not in ("blake2b", "config_blake2b")}
            path.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def without_checksum(path: Path) -> dict:
    """What a document says, without its checksum."""
    document = json.loads(path.read_text(encoding="utf-8"))
    document.pop("blake2b", None)
    return document
