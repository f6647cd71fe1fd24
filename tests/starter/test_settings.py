"""Settings from the environment: what is missing or wrong is said in words, and no secret is ever shown."""

import os
from pathlib import Path

import pytest

from activities.channels import Letter, Outbox
from activities.smtp import Smtp, SmtpServer, Tls
from activities.webhook import Webhook
from starter.serve import channel
from starter.settings import Refused, Settings
from tests.mail_server import mail_server
from tests.starter.conftest import Enforce

WHSEC = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


def of(monkeypatch: pytest.MonkeyPatch, **said: str) -> Settings:
    """The settings where the environment says this and nothing else, each under its prefix."""
    for name in [name for name in os.environ if name.startswith("ENFORCE_")]:
        monkeypatch.delenv(name)
    for name, value in said.items():
        monkeypatch.setenv(f"ENFORCE_{name}", value)
    return Settings()


def test_notices_go_to_the_outbox_where_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # An empty variable says nothing, as in a compose file that passes on what isn't set.
    outbox = channel(of(monkeypatch, CHANNEL="", SMTP_PORT="", SENDER="", OUTBOX=str(tmp_path)))
    assert isinstance(outbox, Outbox)
    outbox.deliver(Letter(name="N1", to="a@agent.example", content=b"x"))
    assert [file.name for file in tmp_path.iterdir()] == ["N1.eml"]


def test_notices_go_by_the_mail_server_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    letter = Letter(name="N1", to="a@agent.example", content=b"From: c@platform.example\r\n\r\nx\r\n")
    with mail_server() as server:
        said = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(server.port), "SMTP_TLS": "none"}
        channel(of(monkeypatch, CHANNEL="smtp", **said)).deliver(letter)
    assert [got.content for got in server.received] == [letter.content]


def test_a_mail_server_is_spoken_to_under_tls_where_nothing_else_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = of(monkeypatch, CHANNEL="smtp", SMTP_HOST="mail", SMTP_USER="u", SMTP_PASSWORD="s3cret")
    assert isinstance(channel(settings), Smtp)
    server = SmtpServer(**settings.of_channel())
    assert (server.tls, server.port, server.timeout) == (Tls.STARTTLS, 587, 30)
    assert server.password.get_secret_value() == "s3cret"


def test_notices_go_by_the_gateway_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"WEBHOOK_URL": "https://gateway.example/n?token=t0ken", "WEBHOOK_SECRET": WHSEC}
    webhook = channel(of(monkeypatch, CHANNEL="webhook", WEBHOOK_TIMEOUT="2.5", **said))
    assert isinstance(webhook, Webhook)
    assert str(webhook) == "webhook gateway.example"


SMTP = {"CHANNEL": "smtp", "SMTP_HOST": "mail.platform.example"}
HOOK = {"CHANNEL": "webhook", "WEBHOOK_URL": "https://gateway.example", "WEBHOOK_SECRET": WHSEC}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"CHANNEL": "s3cret"}, "ENFORCE_CHANNEL: Input should be 'outbox', 'smtp' or 'webhook'"),
        ({"CHANNEL": "smtp"}, "ENFORCE_SMTP_HOST is not set"),
        (SMTP | {"SMTP_HOST": "mail:587"}, "ENFORCE_SMTP_HOST: is no host name (a port is set by itself)"),
        (SMTP | {"SMTP_PORT": "s3cret"}, "ENFORCE_SMTP_PORT: Input should be a valid integer"),
        (SMTP | {"SMTP_PORT": "65536"}, "ENFORCE_SMTP_PORT: Input should be less than or equal to 65535"),
        (SMTP | {"SMTP_TLS": "ssl"}, "ENFORCE_SMTP_TLS: Input should be 'none', 'starttls' or 'tls'"),
        (SMTP | {"SMTP_TIMEOUT": "51"}, "ENFORCE_SMTP_TIMEOUT: Input should be less than or equal to 50"),
        (SMTP | {"SMTP_TIMEOUT": "0"}, "ENFORCE_SMTP_TIMEOUT: Input should be greater than 0"),
        (SMTP | {"SMTP_CA_FILE": "/nowhere/ca.pem"}, "ENFORCE_SMTP_CA_FILE: holds no certificates"),
        (SMTP | {"SMTP_USER": "u"}, "ENFORCE_SMTP_PASSWORD: is given with a user"),
        (
            SMTP | {"SMTP_TLS": "none", "SMTP_USER": "u", "SMTP_PASSWORD": "s3cret"},
            "ENFORCE_SMTP_PASSWORD: leaves by TLS only",
        ),
        ({"CHANNEL": "webhook"}, "ENFORCE_WEBHOOK_URL is not set; ENFORCE_WEBHOOK_SECRET is not set"),
        (HOOK | {"WEBHOOK_URL": "http://gateway.example/s3cret"}, "ENFORCE_WEBHOOK_URL: has to begin with"),
        (HOOK | {"WEBHOOK_SECRET": "s3cret"}, "ENFORCE_WEBHOOK_SECRET: has to be whsec_"),
        (HOOK | {"WEBHOOK_TIMEOUT": "s3cret"}, "ENFORCE_WEBHOOK_TIMEOUT: Input should be a valid number"),
        ({"DATABASE_URL": "mysql://u:s3cret@db/x"}, "ENFORCE_DATABASE_URL: has to be postgresql://"),
        (
            {"DATABASE_URL": "postgresql://u:s3cret@db:s3cret/x"},
            "ENFORCE_DATABASE_URL: has to be postgresql://",
        ),
        ({"SENDER": "平台合规部"}, "ENFORCE_SENDER: is no mail address"),
        ({"SENDER": "a@platform.example, b@platform.example"}, "ENFORCE_SENDER: is no mail address"),
        ({"OFFICERS": "a@platform.example, b"}, "ENFORCE_OFFICERS: is no mail address"),
    ],
)
def test_what_is_missing_or_wrong_is_said_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, str], words: str
) -> None:
    with pytest.raises(Refused) as refused:
        channel(of(monkeypatch, **said))
    assert str(refused.value).startswith(words)
    assert str(refused.value).count("ENFORCE_") == words.count("ENFORCE_")
    assert "s3cret" not in str(refused.value)
    assert refused.value.__suppress_context__


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused) as refused:
        channel(of(monkeypatch, CHANNEL="smtp", SMTP_PORT="x", SMTP_TIMEOUT="x"))
    for variable in ("ENFORCE_SMTP_HOST", "ENFORCE_SMTP_PORT", "ENFORCE_SMTP_TIMEOUT"):
        assert variable in str(refused.value)


def test_a_mail_may_go_to_several_officers(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = of(monkeypatch, OFFICERS="a@platform.example,b@platform.example")
    assert settings.officers == "a@platform.example, b@platform.example"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://postgres:@/postgres?host=/srv/enforce/postgres",
        "postgresql+psycopg2://enforce:p%40ss@db.internal:5432/registry",
        "postgresql://[::1]:5432/registry",
    ],
)
def test_a_registry_is_named_as_postgresql_names_it(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert of(monkeypatch, DATABASE_URL=url).registry_url() == url


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"DATABASE_URL": "postgresql://u:s3cret@db/x", "WEBHOOK_URL": "https://gateway.example/?t=s3cret"}
    settings = of(monkeypatch, SMTP_PASSWORD="s3cret", WEBHOOK_SECRET="s3cret", **said)
    assert "s3cret" not in repr(settings)


async def test_a_wrong_setting_ends_a_command_in_words(enforce: Enforce) -> None:
    wrong = await enforce("worker", ENFORCE_CHANNEL="smtp", ENFORCE_SMTP_PORT="x")
    assert (wrong.code, wrong.out) == (1, "")
    assert wrong.err == (
        "error: ENFORCE_SMTP_HOST is not set; ENFORCE_SMTP_PORT: Input should be a valid integer, "
        "unable to parse string as an integer\n"
    )
