"""Temporal Cloud, or a cluster of one's own: reached by TLS with a certificate or an API key, or not."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trustme
from temporalio.client import Client

from tests.starter.conftest import run

UNUSABLE = "error: Temporal's configuration (TEMPORAL_*) can't be used: "


class Authority:
    """Who vouches for servers and clients, and the files that say so."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.ca = trustme.CA()
        self.file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.file))
        client = self.ca.issue_cert("enforce.platform.example")
        self.certificate, self.key = folder / "client.pem", folder / "client.key"
        client.cert_chain_pems[0].write_to_path(str(self.certificate))
        client.private_key_pem.write_to_path(str(self.key))

    @property
    def trusted(self) -> dict[str, str]:
        return {"TEMPORAL_TLS_SERVER_CA_CERT_PATH": str(self.file)}

    @property
    def as_client(self) -> dict[str, str]:
        return {
            "TEMPORAL_TLS_CLIENT_CERT_PATH": str(self.certificate),
            "TEMPORAL_TLS_CLIENT_KEY_PATH": str(self.key),
        }


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "theirs")


@asynccontextmanager
async def by_tls(client: Client, authority: Authority, *, known_only: bool = False) -> AsyncIterator[str]:
    """The address at which the Temporal server is reached by TLS, by all or by clients vouched for."""
    host, _, port = client.service_client.config.target_host.partition(":")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["h2"])
    authority.ca.issue_cert("127.0.0.1", "temporal.platform.example").configure_cert(context)
    if known_only:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.ca.configure_trust(context)

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while some := await source.read(65536):
                target.write(some)
                await target.drain()
        target.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(copy(reader, back), copy(there, writer))

    server = await asyncio.start_server(forward, "127.0.0.1", 0, ssl=context)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_a_server_is_reached_by_tls_and_by_a_certificate_of_ones_own(
    client: Client, ours: Authority, tmp_path: Path
) -> None:
    async with by_tls(client, ours, known_only=True) as address:
        env = {"TEMPORAL_ADDRESS": address} | ours.trusted | ours.as_client
        listed = await run("cases", "--json", env=env, cwd=tmp_path)
    assert (listed.code, listed.err) == (0, "")


async def test_a_profile_says_all_of_it(client: Client, ours: Authority, tmp_path: Path) -> None:
    async with by_tls(client, ours) as address:
        profiles = tmp_path / "temporal.toml"
        profiles.write_text(
            f"""
            [profile.production]
            address = "{address}"
            namespace = "default"
            api_key = "geheim"
            [profile.production.tls]
            server_ca_cert_path = "{ours.file}"
            server_name = "temporal.platform.example"
            """,
            "utf-8",
        )
        env = {"TEMPORAL_CONFIG_FILE": str(profiles), "TEMPORAL_PROFILE": "production"}
        listed = await run("cases", "--json", env=env, cwd=tmp_path)
        unknown = await run("cases", env=env | {"TEMPORAL_PROFILE": "staging"}, cwd=tmp_path)
    assert (listed.code, listed.err) == (0, "")
    assert (unknown.code, unknown.out) == (1, "")
    assert unknown.err.startswith(f"{UNUSABLE}Profile 'staging' not found")


async def test_an_authority_that_is_not_trusted_is_named_as_the_reason(
    client: Client, ours: Authority, theirs: Authority, tmp_path: Path
) -> None:
    async with by_tls(client, ours) as address:
        env = {"TEMPORAL_ADDRESS": address} | theirs.trusted
        refused = await run("cases", env=env, cwd=tmp_path)
    assert (refused.code, refused.out) == (3, "")
    assert refused.err.startswith(f"error: no Temporal server answers at {address}")
    assert "UnknownIssuer" in refused.err
    assert "Traceback" not in refused.err


@pytest.mark.parametrize("vouched_for_by", [None, "theirs"])
async def test_a_client_that_nobody_vouches_for_is_told_so(
    vouched_for_by: str | None, client: Client, ours: Authority, theirs: Authority, tmp_path: Path
) -> None:
    async with by_tls(client, ours, known_only=True) as address:
        env = {"TEMPORAL_ADDRESS": address} | ours.trusted | (theirs.as_client if vouched_for_by else {})
        refused = await run("cases", env=env, cwd=tmp_path)
    assert (refused.code, refused.out) == (3, "")
    assert refused.err.startswith(f"error: no Temporal server answers at {address}")
    assert "Traceback" not in refused.err


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"TEMPORAL_TLS_SERVER_CA_CERT_PATH": "nowhere.pem"}, "nowhere.pem"),
        ({"TEMPORAL_TLS_CLIENT_CERT_DATA": "a certificate without a key"}, "private key"),
        ({"TEMPORAL_CONFIG_FILE": "broken.toml"}, "TOML"),
    ],
)
async def test_a_configuration_that_can_not_be_used_is_refused_in_words(
    said: dict[str, str], why: str, tmp_path: Path
) -> None:
    (tmp_path / "broken.toml").write_text("[profile", "utf-8")
    refused = await run("cases", env={"TEMPORAL_ADDRESS": "127.0.0.1:1"} | said, cwd=tmp_path)
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith(UNUSABLE)
    assert why in refused.err
    assert "Traceback" not in refused.err
