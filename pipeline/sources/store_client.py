"""The connection to an object store, and what its failures mean; the one place that knows how obstore is set up.

obstore starts threads at its first request, so a process that has used obstore must not be forked: the fork server of
the decode workers is started before the listing, and a decode worker opens a client of its own.
"""

from __future__ import annotations

import importlib.util
import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pipeline.errors import UsageError
from pipeline.records import ErrorClass, ItemError
from pipeline.sources.store_url import StoreUrl

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

_CONNECT_TIMEOUT_S = 5.0
# A connection that brings no byte for so long is given up and the request sent again, within the time for an object.
_LONGEST_SILENCE_S = 10.0
_RETRIES = 5
_BACKOFF = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=4), "base": 2}
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")
_ARCHIVED = frozenset({"InvalidObjectState", "BlobArchived"})
_REFUSED_CREDENTIALS = frozenset(
    {
        "AuthenticationFailed",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidAuthenticationInfo",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
# Where obstore asks last for credentials, so that a failure there means that there were none before.
_METADATA_SERVICES = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")


def refuse_missing_client(url: StoreUrl) -> None:
    """Check that obstore is installed, without loading it.

    Raises:
        UsageError: it is not.
    """
    if importlib.util.find_spec("obstore") is None:
        raise UsageError(f"{url.scheme}:// needs the extra `cloud`: pip install 'label-dir[cloud]'")


def opened_store(url: StoreUrl, timeout_s: float) -> ObjectStore:
    """Return a client of the bucket of `url`, whose requests end within `timeout_s`; nothing is sent yet.

    Credentials, region and endpoint are those of the environment, of web identity, or of the machine's role.

    Raises:
        UsageError: the environment's settings are not usable.
        ImportError: obstore is not installed.
    """
    from obstore import store as stores
    from obstore.exceptions import BaseError

    options: dict[str, Any] = {
        "client_options": {
            "connect_timeout": timedelta(seconds=min(_CONNECT_TIMEOUT_S, timeout_s)),
            "read_timeout": timedelta(seconds=min(_LONGEST_SILENCE_S, timeout_s)),
            "timeout": timedelta(seconds=timeout_s),
            # Without TLS only where the user's own setting names such an endpoint.
            "allow_http": any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS),
        },
        "retry_config": {
            "max_retries": _RETRIES,
            "retry_timeout": timedelta(seconds=timeout_s),
            "backoff": _BACKOFF,
        },
    }
    try:
        if url.scheme == "s3":
            return stores.S3Store(url.bucket, **options)
        if url.scheme == "gs":
            return stores.GCSStore(url.bucket, **options)
        return stores.AzureStore(url.bucket, **options)
    except (BaseError, ValueError) as error:
        raise UsageError(f"{url}: the settings for this store are not usable ({type(error).__name__})") from error


def etag_of(facts: ObjectMeta) -> str | None:
    """Return an object's ETag without quotes: Azure writes them around an answer's ETag, not around a listing's."""
    etag = facts["e_tag"]
    return etag and etag.strip('"')


def error_of(error: Exception) -> ItemError:
    """Return why an object cannot be read, in words of our own: those of obstore quote URLs, which may be signed."""
    text = str(error)
    status = int(found[1]) if (found := _STATUS.search(text)) else 0
    code = found[1] if (found := _CODE.search(text)) else ""
    kind = type(error).__name__
    if code in _ARCHIVED:
        return ItemError(ErrorClass.PERMISSION, "the object is archived; restore it first")
    if code in _REFUSED_CREDENTIALS or status == 401 or kind == "UnauthenticatedError":
        return ItemError(ErrorClass.PERMISSION, f"the store refuses the credentials ({code or status or 401})")
    if any(service in text for service in _METADATA_SERVICES):
        return ItemError(ErrorClass.PERMISSION, "no credentials were found")
    if status == 403 or kind == "PermissionDeniedError":
        return ItemError(ErrorClass.PERMISSION, f"no permission to read the object ({code or 403})")
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return ItemError(ErrorClass.VANISHED, f"the object was gone when it was to be read ({code or 404})")
    if status:
        return ItemError(ErrorClass.IO, f"the store answered {status}" + (f" ({code})" if code else ""))
    if "timed out" in text.lower() or "TimedOut" in text:
        return ItemError(ErrorClass.IO, "the store did not answer in time")
    if isinstance(error, ValueError) or kind == "InvalidPathError":
        return ItemError(ErrorClass.IO, "the key has a part that cannot be requested (.., an empty one, a line break)")
    return ItemError(ErrorClass.IO, "the connection to the store failed or broke off")
