"""An object store that only reads, for measurements: nginx over a folder and ready-made listings, on loopback.

It needs nginx with the echo module (Debian: nginx, libnginx-mod-http-echo).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from xml.sax.saxutils import escape

import click

BUCKET = "bucket"
_KEYS_PER_PAGE = 1000
_CONFIGURATION = """
load_module {module};
daemon off; worker_processes 1; pid {home}/nginx.pid; error_log stderr error;
events {{ worker_connections 512; }}
http {{
  access_log off; default_type application/octet-stream; sendfile on; keepalive_requests 10000000;
  client_body_temp_path {home}/body; proxy_temp_path {home}/proxy; fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi; scgi_temp_path {home}/scgi;
  map $args $page {{ default 0; ~continuation-token=(?<token>[0-9]+) $token; }}
  {servers}
}}
"""
_SERVER = """
  server {{
    listen 127.0.0.1:{port};
    location = /bucket {{ root {home}; default_type application/xml; rewrite ^ /pages/$page break; }}
    location ~ ^/bucket/(?<key>.*)$ {{ root {home}; {delay} }}
    location /now/ {{ internal; alias {home}/bucket/; }}
  }}
"""


def write_pages(home: Path, sizes: Iterable[tuple[str, int]]) -> None:
    """Write the listing of keys with their sizes, which come sorted by key, as S3 answers it: 1,000 keys a page."""
    pages = home / "pages"
    pages.mkdir(parents=True)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    entries = (_entry(key, size_bytes, now) for key, size_bytes in sizes)
    number, page = 0, list(islice(entries, _KEYS_PER_PAGE))
    while page:
        following = list(islice(entries, _KEYS_PER_PAGE))
        token = f"<NextContinuationToken>{number + 1}</NextContinuationToken>" if following else ""
        head = f"<Name>{BUCKET}</Name><IsTruncated>{str(bool(following)).lower()}</IsTruncated>{token}"
        (pages / str(number)).write_text(f"<ListBucketResult>{head}{''.join(page)}</ListBucketResult>")
        number, page = number + 1, following


def _entry(key: str, size_bytes: int, now: str) -> str:
    facts = f"<LastModified>{now}</LastModified><ETag>&quot;{hash(key) & (1 << 64) - 1:032x}&quot;</ETag>"
    return f"<Contents><Key>{escape(key)}</Key>{facts}<Size>{size_bytes}</Size></Contents>"


@contextlib.contextmanager
def serving(home: Path, delays_s: Sequence[float]) -> Iterator[list[dict[str, str]]]:
    """Serve `home`/bucket and the listing in `home`/pages; yield for each delay of a GET the environment of its store.

    Listings are not delayed.
    """
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    module = Path(nginx or "/usr/sbin/nginx").parents[1] / "lib/nginx/modules/ngx_http_echo_module.so"
    if nginx is None or not module.is_file():
        raise click.ClickException("this needs nginx and its echo module (Debian: nginx, libnginx-mod-http-echo)")
    ports = _free_ports(len(delays_s))
    servers = "".join(
        _SERVER.format(home=home, port=port, delay=_delayed(delay_s))
        for port, delay_s in zip(ports, delays_s, strict=True)
    )
    # Started by root, nginx reads files as a user of its own.
    home.chmod(0o755)
    configuration = home / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(module=module, home=home, servers=servers))
    with subprocess.Popen([nginx, "-c", str(configuration), "-p", str(home), "-e", "stderr"]) as server:
        try:
            _wait_for(ports[-1], server)
            yield [_environment(port) for port in ports]
        finally:
            server.terminate()


def _delayed(delay_s: float) -> str:
    return f"echo_sleep {delay_s}; echo_exec /now/$key;" if delay_s else ""


def _environment(port: int) -> dict[str, str]:
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    return {**keys, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 5):
            return
    raise click.ClickException("nginx did not start")
