"""Letters by the platform's gateway: signed, the same when sent again, judged by the answer's status."""

import hashlib
import json
import ssl
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

import pytest
import standardwebhooks
import trustme
from pydantic import SecretStr, ValidationError

from activities.channels import Letter, Undeliverable, mail
from activities.webhook import Gateway, Webhook, sign
from tests.world import shanghai

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
LETTER = mail(
    "compliance@platform.example",
    "a@agent.example",
    "责令整改通知书 SS-2026-00001-N1",
    shanghai("2026-02-12"),
    "SS-2026-00001-N1.20260212",
    "责令整改通知书\n𠮷祥商贸：\n",
    html="<p>责令整改通知书</p>",
    pdf=("SS-2026-00001-N1.pdf", b"%PDF"),
)


class Posted(NamedTuple):
    """A request that came to the gateway."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> Any:
        return json.loads(self.body)


class TheGateway(ThreadingHTTPServer):
    """The platform's gateway, which answers as the test wants it to."""

    status, answer, location, promised = 202, b"queued as 17", "", 0

    def __init__(self) -> None:
        self.posted: list[Posted] = []
        self.answers, self.finishes, self.ends = Event(), Event(), Event()
        self.answers.set()
        self.finishes.set()
        super().__init__(("127.0.0.1", 0), Answering)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/notices"

    def webhook(self, **said: Any) -> Webhook:
        return Webhook(Gateway(**{"url": self.url, "secret": SecretStr(SECRET)} | said))


class Answering(BaseHTTPRequestHandler):
    server: TheGateway

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append(Posted(self.path, dict(self.headers), body))
        self.server.answers.wait(20)
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", str(len(self.server.answer) + self.server.promised))
        self.end_headers()
        self.server.finishes.wait(20)
        self.wfile.write(self.server.answer)
        if self.server.promised:
            self.server.ends.wait(20)

    def log_message(self, *said: Any) -> None:
        pass


@contextmanager
def listening(certificate: ssl.SSLContext | None = None) -> Iterator[TheGateway]:
    with TheGateway() as server:
        if certificate:
            server.socket = certificate.wrap_socket(server.socket, server_side=True)
        serving = Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        try:
            yield server
        finally:
            server.answers.set()
            server.finishes.set()
            server.ends.set()
            server.shutdown()
            serving.join(10)


@pytest.fixture
def gateway() -> Iterator[TheGateway]:
    with listening() as server:
        yield server


def sealed(to: str = "a@agent.example", phone: str = "13800000000", content: bytes = LETTER) -> Letter:
    return Letter(name="SS-2026-00001-N1", to=to, phone=phone, content=content)


# What arrives


def test_a_letter_arrives_as_data_and_as_the_very_bytes_that_are_on_record(gateway: TheGateway) -> None:
    receipt = gateway.webhook(url=gateway.url + "?from=enforce").deliver(sealed())
    assert receipt == "webhook 127.0.0.1: 202 queued as 17"
    [posted] = gateway.posted
    data = posted.told["data"]
    assert posted.path == "/notices?from=enforce"
    assert (posted.told["type"], posted.told["timestamp"]) == ("notice", "2026-02-12T10:00:00+08:00")
    assert b64decode(data.pop("letter")) == LETTER
    assert data == {
        "name": "SS-2026-00001-N1",
        "to": "a@agent.example",
        "phone": "13800000000",
        "subject": "责令整改通知书 SS-2026-00001-N1",
        "text": "责令整改通知书\n𠮷祥商贸：\n",
        "message_id": "<SS-2026-00001-N1.20260212@platform.example>",
        "sha256": hashlib.sha256(LETTER).hexdigest(),
    }


def test_the_gateway_can_tell_that_a_letter_is_from_us(gateway: TheGateway) -> None:
    gateway.webhook().deliver(sealed())
    [posted] = gateway.posted
    assert standardwebhooks.Webhook(SECRET).verify(posted.body, posted.headers) == posted.told
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(posted.body + b" ", posted.headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET[:-1] + "E").verify(posted.body, posted.headers)


def test_a_signature_is_that_of_the_published_example() -> None:
    signature = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_letter_that_is_sent_again_is_the_same_letter_to_the_gateway(gateway: TheGateway) -> None:
    gateway.status = 503
    with pytest.raises(ConnectionError):
        gateway.webhook().deliver(sealed())
    gateway.status = 202
    gateway.webhook().deliver(sealed())
    first, again = gateway.posted
    assert (first.body, first.headers["webhook-id"]) == (again.body, again.headers["webhook-id"])

    drafted_anew = LETTER.replace(b"20260212@", b"20260213@")
    gateway.webhook().deliver(sealed(content=drafted_anew))
    assert gateway.posted[-1].headers["webhook-id"] != first.headers["webhook-id"]


@pytest.mark.parametrize(("to", "phone"), [("", "13800000000"), ("a@agent.example", "")])
def test_either_a_phone_or_an_address_is_enough(gateway: TheGateway, to: str, phone: str) -> None:
    gateway.webhook().deliver(sealed(to, phone))
    assert [(told["to"], told["phone"]) for told in [gateway.posted[0].told["data"]]] == [(to, phone)]


def test_a_letter_that_the_gateway_took_is_served_though_the_rest_of_its_answer_is_lost(
    gateway: TheGateway,
) -> None:
    gateway.finishes.clear()
    assert gateway.webhook(timeout=0.5).deliver(sealed()) == "webhook 127.0.0.1: 202 Accepted"


def test_an_answer_without_end_is_not_read_to_its_end(gateway: TheGateway) -> None:
    gateway.answer, gateway.promised = b"x" * 5000, 10**12
    receipt = gateway.webhook(timeout=0.5).deliver(sealed())
    assert receipt.startswith("webhook 127.0.0.1: 202 xxx")
    assert len(receipt) < 300


def test_a_gateway_is_spoken_to_under_tls_where_its_authority_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, certificate = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(certificate)
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with listening(certificate) as gateway:
        url = gateway.url.replace("http:", "https:")
        with pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            gateway.webhook(url=url).deliver(sealed())
        assert gateway.posted == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        gateway.webhook(url=url).deliver(sealed())
    assert len(gateway.posted) == 1


# An officer's: nobody can deliver it


def test_a_letter_without_a_phone_or_an_address_is_an_officers(gateway: TheGateway) -> None:
    with pytest.raises(Undeliverable, match="neither a phone nor an address"):
        gateway.webhook().deliver(sealed(to=" ", phone=""))
    assert gateway.posted == []


@pytest.mark.parametrize("status", [400, 409, 413, 422, 451])
def test_a_letter_that_the_gateway_refuses_is_an_officers(gateway: TheGateway, status: int) -> None:
    gateway.status, gateway.answer = status, "号码不存在\r\n\x1b[31m".encode() + b"x" * 9000
    with pytest.raises(Undeliverable) as refused:
        gateway.webhook().deliver(sealed())
    assert refused.value.message.startswith(f"webhook 127.0.0.1: {status} 号码不存在 [31mxxx")
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 300


# Tried again


@pytest.mark.parametrize(
    "status", [300, 302, 307, 401, 403, 404, 405, 407, 408, 410, 425, 429, 500, 502, 503]
)
def test_a_letter_is_tried_again_where_it_is_not_the_letter_that_is_wrong(
    gateway: TheGateway, status: int
) -> None:
    gateway.status, gateway.answer = status, b"not now"
    with pytest.raises(ConnectionError, match=rf"webhook 127\.0\.0\.1: {status} not now"):
        gateway.webhook().deliver(sealed())


def test_a_letter_is_not_carried_on_to_where_the_gateway_points(gateway: TheGateway) -> None:
    gateway.status, gateway.location = 307, f"{gateway.url}/elsewhere"
    with pytest.raises(ConnectionError, match="307"):
        gateway.webhook().deliver(sealed())
    assert [posted.path for posted in gateway.posted] == ["/notices"]


def test_a_letter_is_tried_again_where_the_gateway_does_not_answer(gateway: TheGateway) -> None:
    gateway.answers.clear()
    with pytest.raises(ConnectionError, match=r"webhook 127\.0\.0\.1: .*timed out"):
        gateway.webhook(timeout=0.2).deliver(sealed())


def test_a_letter_is_tried_again_where_there_is_no_gateway() -> None:
    with TheGateway() as gone:
        webhook = gone.webhook()
    with pytest.raises(ConnectionError, match=r"webhook 127\.0\.0\.1: .*refused"):
        webhook.deliver(sealed())


# The gateway, as it is told


@pytest.mark.parametrize(
    "url", ["http://localhost:1/x", "http://[::1]/", "https://gateway.example?token=t0ken"]
)
def test_a_gateway_is_far_away_under_tls_or_here(url: str) -> None:
    gateway = Gateway(url=url, secret=SecretStr(SECRET))
    assert "t0ken" not in f"{gateway!r}{Webhook(gateway)}"
    assert SECRET not in repr(gateway)


@pytest.mark.parametrize(
    ("said", "about"),
    [
        ({"url": "http://gateway.example/"}, "url"),
        ({"url": "http://127.0.0.1.gateway.example/"}, "url"),
        ({"url": "ftp://gateway.example/"}, "url"),
        ({"url": "https:///s3cret"}, "url"),
        ({"url": "gateway.example"}, "url"),
        ({"url": "https://gateway.example:s3cret/"}, "url"),
        ({"url": "https://user:s3cret@gateway.example/"}, "url"),
        ({"url": "https://gateway.example/ HTTP/1.1\r\nX: s3cret"}, "url"),
        ({"url": "https://网关.example/"}, "url"),
        ({"secret": "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}, "secret"),
        ({"secret": "whsec_"}, "secret"),
        ({"secret": "whsec_s3cret"}, "secret"),
        ({"secret": "whsec_s3cret密" * 9}, "secret"),
        ({"timeout": -1}, "timeout"),
    ],
)
def test_a_gateway_that_cannot_be_or_is_not_safe_is_refused(said: dict[str, object], about: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Gateway.model_validate({"url": "https://gateway.example", "secret": SECRET} | said)
    assert [error["loc"] for error in refused.value.errors()] == [(about,)]
    assert "s3cret" not in str(refused.value)
