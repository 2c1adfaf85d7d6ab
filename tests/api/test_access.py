"""Who may come in, what they may do, and what of them the model's server gets to see."""

from collections.abc import AsyncIterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.core.access import ApiKey, Principal, Role, digest, identify
from tests.serving import Served, chat, serving
from tests.standin.model import Model

ADMIN, USER = "admin-key-of-the-test", "user-key-of-the-test"
KEYS = [{"name": "ann", "key": ADMIN, "role": "admin"}, {"name": "bob", "key": USER, "role": "user"}]
CHAT = "/v1/chat/completions"


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """The model `m`."""
    return Model(tmp_path, "m")


@pytest.fixture
async def keyless(tmp_path: Path, standin_program: Path, tiny_model: Path, model: Model) -> AsyncIterator[Served]:
    """A gateway without keys, known as this machine and as `gate.example`."""
    settings = {"server": {"allowed_hosts": ["Gate.example"]}}
    models = {"m": model.as_llama_server(tiny_model)}
    async with serving(tmp_path, models, program=standin_program, settings=settings) as served:
        yield served


@pytest.fixture
async def keyed(tmp_path: Path, standin_program: Path, tiny_model: Path, model: Model) -> AsyncIterator[Served]:
    """A gateway with the key of an admin and the key of a user."""
    settings = {"server": {"api_keys": KEYS}}
    models = {"m": model.as_llama_server(tiny_model)}
    async with serving(tmp_path, models, program=standin_program, settings=settings) as served:
        yield served


async def answer(
    served: Served, headers: Mapping[str, str], path: str = "/v1/models", method: str = "GET"
) -> tuple[int, str, Mapping[str, str]]:
    """Return status, error code and headers of a request."""
    async with served.http.request(method, path, headers=headers) as response:
        body: Any = await response.json()
        code = body["error"].get("code", "") if "error" in body else ""
        return response.status, code, response.headers.copy()


# Without keys: this machine only


async def test_a_name_of_this_machine_is_served(keyless: Served) -> None:
    local = ["localhost", "LOCALHOST:1", "127.0.0.1:5846", "127.8.9.10", "[::1]", "[::1]:5846"]
    for host in (*local, "gate.example:80", "GATE.example"):
        assert (host, 200) == (host, (await answer(keyless, {"Host": host}))[0])


@pytest.mark.parametrize("path", ["/v1/models", "/running", "/nowhere"])
async def test_a_name_that_was_rebound_to_this_machine_is_refused(keyless: Served, path: str) -> None:
    suffixed = ["localhost.evil.example", "127.0.0.1.evil.example", "a.gate.example"]
    for host in ("evil.example", *suffixed, "10.0.0.1", "[::2]:80", "[", "[::1", ""):
        status, code, _ = await answer(keyless, {"Host": host}, path)
        assert (host, 403, "forbidden") == (host, status, code)


async def test_a_page_of_another_site_is_refused_and_no_cors_header_is_sent(keyless: Served) -> None:
    for origin in ("https://evil.example", "null", "http://localhost:1", "http://[bad", "file://", ""):
        for path, method in (("/v1/models", "GET"), ("/health", "GET"), ("/unload", "POST"), (CHAT, "OPTIONS")):
            asks = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            status, code, headers = await answer(keyless, asks, path, method)
            assert (origin, path, 403, "forbidden") == (origin, path, status, code)
            assert [] == [name for name in headers if name.lower().startswith("access-control")]


async def test_a_page_of_the_gateway_itself_is_served_without_cors_headers(keyless: Served) -> None:
    status, _, headers = await answer(keyless, {"Origin": keyless.url})
    assert (200, []) == (status, [name for name in headers if name.lower().startswith("access-control")])


async def test_a_local_caller_may_do_everything(keyless: Served) -> None:
    assert 200 == (await answer(keyless, {}, "/unload", "POST"))[0]


# With keys


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {USER}"},
        {"Authorization": f"bearer  {USER} "},
        {"x-api-key": USER},
        {"Authorization": "Basic Ym9iOmtleQ==", "x-api-key": USER},
        {"Authorization": f"Bearer {ADMIN}", "Host": "any.example"},
    ],
)
async def test_a_key_is_taken_from_either_header_under_any_host(keyed: Served, headers: dict[str, str]) -> None:
    assert 200 == (await answer(keyed, headers))[0]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": USER},
        {"Authorization": f"Bearer {USER}x"},
        {"Authorization": f"Bearer {USER[:-1]}"},
        {"Authorization": "Bearer " + sha256(USER.encode()).hexdigest()},
        {"Authorization": "Bearer k\u00e9y"},
        {"x-api-key": USER.upper()},
    ],
)
async def test_without_a_good_key_nothing_is_told(keyed: Served, headers: dict[str, str]) -> None:
    for path in ("/v1/models", "/v1/messages", "/running", "/nowhere"):
        status, _, answered = await answer(keyed, headers, path)
        assert (path, 401, "Bearer") == (path, status, answered["WWW-Authenticate"])
        assert answered["x-request-id"]


async def test_the_sdk_of_anthropic_gets_its_own_shape_for_a_missing_key(keyed: Served) -> None:
    status, error = await keyed.post("/v1/messages", chat("m"))
    assert (401, "error", "authentication_error") == (status, error["type"], error["error"]["type"])


async def test_health_and_readiness_are_open(keyed: Served) -> None:
    assert (200, {"status": "healthy"}) == await keyed.get("/health")
    assert (200, {"status": "ready"}) == await keyed.get("/ready")
    assert 200 == (await keyed.get("/"))[0]


async def test_only_an_admin_may_unload(keyed: Served) -> None:
    status, code, _ = await answer(keyed, {"x-api-key": USER}, "/unload", "POST")
    assert (403, "forbidden") == (status, code)
    assert 200 == (await answer(keyed, {"x-api-key": ADMIN}, "/unload", "POST"))[0]


async def test_under_upstream_a_user_may_look_and_an_admin_may_act(keyed: Served) -> None:
    path = "/upstream/m/slots/0?action=erase"
    assert 200 == (await answer(keyed, {"x-api-key": USER}, "/upstream/m/health"))[0]
    assert (403, "forbidden") == (await answer(keyed, {"x-api-key": USER}, path, "POST"))[:2]
    assert 403 != (await answer(keyed, {"x-api-key": ADMIN}, path, "POST"))[0]


async def test_probes_may_ask_for_the_head_alone(keyed: Served) -> None:
    for path in ("/", "/health", "/ready"):
        async with keyed.http.head(path) as response:
            assert (200, b"") == (response.status, await response.read())


async def test_a_body_is_not_asked_for_before_the_key_is_known(keyed: Served) -> None:
    async with keyed.http.post(CHAT, data=b"{}", expect100=True) as response:
        assert 401 == response.status


async def test_the_clients_key_and_its_other_headers_stay_at_the_gateway(
    keyed: Served, model: Model, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    sent = {
        "Authorization": f"Bearer {USER}",
        "x-api-key": USER,
        "Cookie": "session=secret",
        "Proxy-Authorization": "Basic secret",
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "secret",
        "TE": "trailers",
        "X-Forwarded-For": "10.9.8.7",
        "X-Custom": "secret",
        "User-Agent": "secret",
    }
    async with keyed.http.post(CHAT, json=chat("m"), headers=sent) as response:
        assert 200 == response.status
    async with keyed.http.get("/upstream/m/slots", headers=sent) as response:
        assert 200 == response.status
    (started,) = model.journal.events("started")
    own = started["environment"]["LLAMA_API_KEY"]
    for path, names in (
        (CHAT, {"host", "authorization", "content-type", "accept", "content-length"}),
        ("/slots", {"host", "authorization", "accept"}),
    ):
        (arrived,) = model.asked(path)
        assert names == set(arrived["headers"])
        assert f"Bearer {own}" == arrived["headers"]["authorization"]
    assert USER not in model.journal.path.read_text()
    assert USER not in caplog.text
    assert own not in caplog.text


def test_keys_are_compared_by_their_digests() -> None:
    keys = [
        ApiKey(name=name, digest=digest(name * 9), role=role) for name, role in (("a", Role.USER), ("b", Role.ADMIN))
    ]
    assert sha256(b"aaaaaaaaa").digest() == keys[0].digest
    assert Principal(name="b", role=Role.ADMIN) == identify("b" * 9, keys)
    assert None is identify("a", keys)
    assert None is identify(keys[0].digest.hex(), keys)
    assert "aaaa" not in repr(keys)
