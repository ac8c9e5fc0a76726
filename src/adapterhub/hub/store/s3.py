"""Blobs in an S3-compatible bucket (``s3://bucket/prefix``); credentials as boto3 finds them.

``AWS_ENDPOINT_URL`` names a server other than Amazon's. Clients fetch contents from the bucket by
addresses that are signed for an hour, so the web workers do not carry the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapterhub.errors import HubError
from adapterhub.hub.store.blobs import CHUNK, require_sha256

_LINK_SECONDS = 3600


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
            retries={"max_attempts": 5, "mode": "standard"},
            max_pool_connections=40,
        )
        self._client: Any = boto3.client("s3", config=config)

    def _name(self, sha256: str) -> str:
        require_sha256(sha256)
        return f"{self.prefix}sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}"

    def put(self, source: Path, sha256: str) -> None:
        if self.size(sha256) == source.stat().st_size:
            return
        # Large files go up in parts; the object appears when the last part is there.
        self._client.upload_file(
            str(source),
            self.bucket,
            self._name(sha256),
            ExtraArgs={"ContentType": "application/octet-stream"},
        )

    def size(self, sha256: str) -> int | None:
        from botocore.exceptions import ClientError

        try:
            return int(
                self._client.head_object(Bucket=self.bucket, Key=self._name(sha256))[
                    "ContentLength"
                ]
            )
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                return None
            raise

    def read(self, sha256: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        options: dict[str, Any] = {}
        if start or end is not None:
            options["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        body = self._client.get_object(Bucket=self.bucket, Key=self._name(sha256), **options)[
            "Body"
        ]
        with body:
            yield from body.iter_chunks(CHUNK)

    def link(self, sha256: str, name: str) -> str | None:
        if not self.redirect:
            return None
        parameters = {
            "Bucket": self.bucket,
            "Key": self._name(sha256),
            "ResponseContentType": "application/octet-stream",
        }
        return self._client.generate_presigned_url(
            "get_object", Params=parameters, ExpiresIn=_LINK_SECONDS
        )

    def remove(self, sha256: str) -> None:
        self._client.delete_object(Bucket=self.bucket, Key=self._name(sha256))

    def all(self) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=f"{self.prefix}sha256/"
        )
        for page in pages:
            for item in page.get("Contents", ()):
                yield item["Key"].rpartition("/")[2]
