"""Who is answered: by token, Host and Origin; and what every answer says to a browser."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.artifact import Artifact
from tests.conftest import command_path
from tests.support.serve_process import LabelServe
from tests.support.watch_process import photo

TOKEN = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def server(tiny_model: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelServe]:
    folder = tmp_path_factory.mktemp("serve")
    (folder / "token").write_text(TOKEN + "\n")
    options = ("-m", str(tiny_model.path), "--token-file", str(folder / "token"), "--allow-host", "photos.example")
    with LabelServe(folder, *options) as running:
        yield running


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [command_path("label-serve"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_an_address_of_other_computers_needs_a_token() -> None:
    done = _run("--host", "0.0.0.0", "--port", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "label-serve: --host 0.0.0.0: other computers can reach that address, so clients have"
    )


@pytest.mark.parametrize(
    "token", ["short", "with a space in the middle", "not-ascii-\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4"]
)
def test_a_token_that_is_no_secret_is_refused(token: str) -> None:
    done = _run("--token", token)
    assert done.returncode == 2
    assert "a token has at least 16 letters" in done.stderr


def test_a_token_file_that_is_missing_is_input_missing(tmp_path: Path) -> None:
    assert _run("--token-file", str(tmp_path / "none")).returncode == 66
    assert _run("--token-file", "x", "--token", "y").returncode == 2


def test_without_the_token_only_the_page_and_the_health_are_shown(server: LabelServe) -> None:
    for path in ("/", "/assets/photos.js", "/healthz", "/readyz", "/openapi.json"):
        assert server.request("GET", path).status == 200, path
    for path in ("/v1/models", "/metrics", "/unknown", "/v1/label", "//healthz", "/HEALTHZ"):
        answer = server.request("GET", path)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), path
    assert server.label(("a.png", photo(0))).status == 401


def test_the_token_opens_as_a_bearer_and_nothing_else_does(server: LabelServe) -> None:
    assert server.label(("a.png", photo(0)), headers=bearer(TOKEN)).rows[0]["label_1"] == "black"
    for wrong in (TOKEN[:-1], TOKEN + "x", "", TOKEN.upper(), "\u00e4"):
        assert server.request("GET", "/v1/models", headers=bearer(wrong)).status == 401
    assert server.request("GET", "/v1/models", headers={"Authorization": f"Basic {TOKEN}"}).status == 401


def test_a_browser_gets_a_cookie_for_the_token_that_no_other_site_can_use(server: LabelServe) -> None:
    assert server.request("POST", "/session", b"wrong").status == 401
    answer = server.request("POST", "/session", TOKEN.encode())
    cookie, *attributes = answer.headers["set-cookie"].split("; ")
    assert TOKEN not in cookie
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(attributes)
    assert server.request("GET", "/v1/models", headers={"Cookie": cookie}).status == 200
    assert server.request("GET", "/v1/models", headers={"Cookie": cookie[:-1]}).status == 401
    assert server.request("POST", "/session", b"x" * 10_000).status == 413


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "", "127.0.0.1@evil.example", "127.0.0.1.evil", "["]
)
def test_a_name_that_is_not_the_servers_is_refused_as_in_dns_rebinding(server: LabelServe, host: str) -> None:
    headers = bearer(TOKEN) | {"Host": host.format(port=server.port)}
    assert server.request("GET", "/v1/models", headers=headers).status == 400


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:{port}", "[::1]:{port}", "Photos.Example", "photos.example:443"]
)
def test_the_servers_own_names_are_answered(server: LabelServe, host: str) -> None:
    headers = bearer(TOKEN) | {"Host": host.format(port=server.port)}
    assert server.request("GET", "/v1/models", headers=headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_can_post_nothing(server: LabelServe, headers: dict[str, str]) -> None:
    answer = server.label(("a.png", photo(0)), headers=bearer(TOKEN) | headers)
    assert (answer.status, answer.json) == (403, {"error": "a page of another site may send nothing here"})


def test_the_servers_own_page_can_post(server: LabelServe) -> None:
    headers = bearer(TOKEN) | {"Origin": server.url.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert server.label(("a.png", photo(0)), headers=headers).status == 200


def test_every_answer_tells_browsers_to_load_nothing_from_elsewhere(server: LabelServe) -> None:
    for path in ("/", "/assets/page.css", "/unknown", "/v1/models", "/healthz"):
        headers = server.request("GET", path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers
    preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in server.request("OPTIONS", "/v1/label", headers=preflight).headers


def test_an_address_that_is_taken_or_impossible_is_said_in_words(server: LabelServe) -> None:
    done = _run("--port", str(server.port))
    assert (done.returncode, done.stdout) == (74, "")
    assert f"port {server.port} of 127.0.0.1 cannot be used" in done.stderr
    assert _run("--host", "no.such.host.invalid", "--token", TOKEN).returncode == 74
    assert _run("-m", "no/such/model", "--port", "0").returncode == 2
    assert _run("-m", "missing.onnx", "--port", "0").returncode == 66
