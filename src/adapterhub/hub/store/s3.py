"""Blobs in an S3-compatible bucket (``s3://bucket/prefix``); credentials as boto3 finds them.

``AWS_ENDPOINT_URL`` names a server other than Amazon's. Clients fetch contents from the bucket by
addresses that are signed for an hour, so the web workers do not carry the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub.store.blobs import CHUNK, BlobsUnreachable, require_sha256

_LINK_SECONDS = 3600
_CONNECT_SECONDS = 5
_READ_SECONDS = 60


class S3Blobs:
    """Blobs as objects ``<prefix>sha256/ab/cd/<hash>`` of one bucket.

    Args:
        url: ``s3://bucket`` or ``s3://bucket/prefix``.
        redirect: Let clients fetch from the bucket; ``False``: through the hub.
    """

    def __init__(self, url: str, *, redirect: bool = True) -> None:
        import boto3  # slow to import, and not needed with a folder
        from botocore.config import Config

        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not url.startswith("s3://") or not bucket:
            raise HubError(f"{url!r} is not the address of a bucket; write s3://bucket/prefix")
        self.bucket, self.redirect = bucket, redirect
        self.prefix = prefix.rstrip("/") + "/" if prefix else ""
        config = Config(
            signature_version="s3v4",
            retries={"max_attempts": 3, "mode": "standard"},
            max_pool_connections=40,
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
        )
        self._client: Any = boto3.client("s3", config=config)

    def _name(self, sha256: str) -> str:
        require_sha256(sha256)
        return f"sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}"

    def put(self, source: Path, sha256: str) -> None:
        if self.size(sha256) != source.stat().st_size:
            self.put_object(self._name(sha256), source)

    def size(self, sha256: str) -> int | None:
        key = self.prefix + self._name(sha256)
        try:
            with _answering():
                return int(self._client.head_object(Bucket=self.bucket, Key=key)["ContentLength"])
        except FileNotFoundError:
            return None

    def read(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        return self.read_object(self._name(sha256), start, end)

    def link(self, sha256: str, name: str) -> str | None:
        if not self.redirect:
            return None
        parameters = {
            "Bucket": self.bucket,
            "Key": self.prefix + self._name(sha256),
            "ResponseContentType": "application/octet-stream",
        }
        return self._client.generate_presigned_url(
            "get_object", Params=parameters, ExpiresIn=_LINK_SECONDS
        )

    def remove(self, sha256: str) -> None:
        self.remove_object(self._name(sha256))

    def all(self) -> Iterator[str]:
        for name, _ in self.objects("sha256/"):
            yield name.rpartition("/")[2]

    def put_object(self, name: str, source: Path) -> None:
        """Store a file as an object below the prefix; it appears as a whole."""
        options = {"ContentType": "application/octet-stream"}
        # Large files go up in parts; the object appears when the last part is there.
        with _answering():
            self._client.upload_file(
                str(source), self.bucket, self.prefix + name, ExtraArgs=options
            )

    def read_object(self, name: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of an object from *start* up to, not including, *end*."""
        options: dict[str, Any] = {}
        if start or end is not None:
            options["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        with _answering():
            key = self.prefix + name
            body = self._client.get_object(Bucket=self.bucket, Key=key, **options)["Body"]
            with body:
                yield from body.iter_chunks(CHUNK)

    def remove_object(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        with _answering():
            self._client.delete_object(Bucket=self.bucket, Key=self.prefix + name)

    def objects(self, below: str) -> Iterator[tuple[str, float]]:
        """Yield the names that begin with *below*, with the time of their last change (seconds)."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix + below
        )
        with _answering():
            for page in pages:
                for item in page.get("Contents", ()):
                    name = item["Key"].removeprefix(self.prefix)
                    yield name, item["LastModified"].timestamp()


@contextmanager
def _answering() -> Iterator[None]:
    """Turn whatever the client of the bucket raises into the one error that others know.

    Raises:
        FileNotFoundError: If there is no such object.
        BlobsUnreachable: For everything else.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError, Boto3Error) as error:
        answer = error.response if isinstance(error, ClientError) else {}
        if answer.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
            raise FileNotFoundError(None, "the bucket has no such object") from error
        raise BlobsUnreachable(f"the bucket does not answer: {type(error).__name__}") from error
