"""Letters by mail: from what a server says, a letter is served, tried again, or an officer's."""

import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest
import trustme
from pydantic import SecretStr, ValidationError

from activities.channels import Letter, Undeliverable
from activities.smtp import Smtp, SmtpServer, Tls
from tests.mail_server import ACCEPTED, DROP, HANG, PASSWORD, USER, Received, mail_server

HEAD = (
    b"From: =?utf-8?b?5bmz5Y+w?= <compliance@platform.example>\r\n"
    b"To: a@agent.example, b@agent.example\r\n"
    b"Message-ID: <SS-2026-00001-N1.20260212@platform.example>\r\n"
    b"Subject: SS-2026-00001-N1\r\n\r\n"
)
PLAIN = HEAD + b".\r\n..\r\n.hidden\r\n\r\n . \r\n" + b"x" * 990 + b"\r\n.\r\n"
CHINESE = HEAD + "责令整改通知书\r\n.𠮷祥商贸\r\n".encode()


class Authority(NamedTuple):
    """A certificate authority of the test's own: its file, and a server's certificate from it."""

    file: Path
    certificate: ssl.SSLContext


def authority(folder: Path, host: str = "127.0.0.1") -> Authority:
    ca = trustme.CA()
    file = folder / f"{host}-{len(list(folder.iterdir()))}.pem"
    ca.cert_pem.write_to_path(str(file))
    certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(host).configure_cert(certificate)
    return Authority(file, certificate)


@pytest.fixture
def trusted(tmp_path: Path) -> Authority:
    return authority(tmp_path)


def sealed(content: bytes = PLAIN, to: str = "a@agent.example") -> Letter:
    return Letter(name="SS-2026-00001-N1", to=to, content=content)


@contextmanager
def a_line(*says: bytes, certificate: ssl.SSLContext | None = None) -> Iterator[SmtpServer]:
    """A server that says these lines, one at the start and one after each line that it hears."""

    def talk() -> None:
        try:
            caller, _ = listening.accept()
        except OSError:
            return
        if certificate:
            caller = certificate.wrap_socket(caller, server_side=True)
        with caller, caller.makefile("rb") as heard:
            for line in says:
                caller.sendall(line + b"\r\n")
                heard.readline()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        talking = Thread(target=talk)
        talking.start()
        yield SmtpServer(host="127.0.0.1", port=listening.getsockname()[1], tls=Tls.NONE, timeout=10)
        listening.shutdown(socket.SHUT_RDWR)
        talking.join(10)


# What arrives


@pytest.mark.parametrize(
    ("content", "body"), [(PLAIN, frozenset[str]()), (CHINESE, frozenset(["BODY=8BITMIME"]))]
)
def test_a_letter_arrives_byte_by_byte_and_the_servers_answer_is_the_receipt(
    content: bytes, body: frozenset[str]
) -> None:
    with mail_server() as server:
        receipt = Smtp(server.as_told()).deliver(sealed(content, to="a@agent.example, b@agent.example"))
    assert receipt == "smtp 127.0.0.1: 250 2.0.0 Ok: queued as 12AB"
    assert server.received == [
        Received(
            sender="compliance@platform.example",
            to=("a@agent.example", "b@agent.example"),
            content=content,
            options=body | {f"SIZE={len(content)}"},
            encrypted=False,
            user="",
        )
    ]


@pytest.mark.filterwarnings("ignore:Requiring AUTH")  # aiosmtpd doesn't see that TLS was there before it
@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.TLS])
def test_a_letter_travels_encrypted_and_under_our_name(tls: Tls, trusted: Authority) -> None:
    with mail_server(tls, trusted.certificate, known_only=True) as server:
        told = server.as_told(tls=tls, ca_file=trusted.file, user=USER, password=PASSWORD)
        Smtp(told).deliver(sealed(CHINESE))
    assert [(got.content, got.encrypted, got.user) for got in server.received] == [(CHINESE, True, USER)]


def test_a_letter_that_the_server_took_is_served_whatever_happens_then() -> None:
    for then in (HANG, DROP, "421 too much"):
        with mail_server(to_quit=then) as server, ThreadPoolExecutor(1) as pool:
            receipt = pool.submit(Smtp(server.as_told()).deliver, sealed())
            assert receipt.result(10) == f"smtp 127.0.0.1: {ACCEPTED}"


def test_the_receipt_names_the_address_that_was_refused_while_another_was_served() -> None:
    with mail_server(to_rcpt={"b@agent.example": "550 5.1.1 no such user"}) as server:
        receipt = Smtp(server.as_told()).deliver(sealed(to="a@agent.example, b@agent.example"))
    assert receipt == f"smtp 127.0.0.1: {ACCEPTED} (not to b@agent.example: 550 5.1.1 no such user)"
    assert [got.to for got in server.received] == [("a@agent.example",)]


def test_an_address_beyond_ascii_is_written_to_where_the_server_can() -> None:
    letter = sealed(to="王芳@代理商.example")
    with mail_server() as server:
        Smtp(server.as_told()).deliver(letter)
        assert [got.to for got in server.received] == [("王芳@代理商.example",)]
        server.lacks = ("SMTPUTF8",)
        with pytest.raises(Undeliverable, match=r"beyond ASCII .*王芳@代理商"):
            Smtp(server.as_told()).deliver(letter)
    assert len(server.received) == 1


# An officer's: nobody can deliver it


@pytest.mark.parametrize("nowhere", ["", " ", ","])
def test_a_letter_without_an_address_is_an_officers(nowhere: str) -> None:
    with mail_server() as server, pytest.raises(Undeliverable, match="no address"):
        Smtp(server.as_told()).deliver(sealed(to=nowhere))


@pytest.mark.parametrize(
    "says",
    [
        {"to_mail": "550 5.7.1 no mail from you"},
        {"to_rcpt": {"a@agent.example": "550 5.7.1 no mail from you"}},
        {"answer": "550 5.7.1 no mail from you"},
    ],
    ids=["MAIL", "RCPT", "DATA"],
)
def test_a_letter_that_is_refused_for_good_is_an_officers(says: dict[str, Any]) -> None:
    with (
        mail_server(**says) as server,
        pytest.raises(Undeliverable, match=r" smtp 127\.0\.0\.1: .*550 5\.7\.1 no mail from you$"),
    ):
        Smtp(server.as_told()).deliver(sealed())


def test_a_letter_all_of_whose_addresses_are_refused_for_good_is_an_officers() -> None:
    to_rcpt = {"a@agent.example": "550 unknown", "b@agent.example": "552 full"}
    with (
        mail_server(to_rcpt=to_rcpt) as server,
        pytest.raises(Undeliverable, match=r"a@agent\.example: 550 unknown; b@agent\.example: 552 full"),
    ):
        Smtp(server.as_told()).deliver(sealed(to="a@agent.example, b@agent.example"))
    assert server.received == []


def test_an_answer_of_many_lines_is_one_line_on_record() -> None:
    with (
        mail_server(answer="550-5.7.1 we\r\n550-\x1b[31mdon't\r\n550 " + "x" * 900) as server,
        pytest.raises(Undeliverable) as refused,
    ):
        Smtp(server.as_told()).deliver(sealed())
    assert refused.value.message.startswith("smtp 127.0.0.1: 550 5.7.1 we [31mdon't xxx")
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 400


# Tried again: the next time may be better


@pytest.mark.parametrize(
    "says",
    [
        {"to_mail": "451 4.3.0 not now"},
        {"to_rcpt": {"a@agent.example": "451 4.3.0 not now"}},
        {"answer": "451 4.3.0 not now"},
        {"to_mail": "421 4.3.0 not now"},
    ],
    ids=["MAIL", "RCPT", "DATA", "closing"],
)
def test_a_letter_that_is_refused_for_now_is_tried_again(says: dict[str, Any]) -> None:
    with (
        mail_server(**says) as server,
        pytest.raises(ConnectionError, match=r"smtp 127\.0\.0\.1: .*4\.3\.0 not now"),
    ):
        Smtp(server.as_told()).deliver(sealed())


def test_a_letter_is_tried_again_while_one_of_its_addresses_may_still_take_it() -> None:
    to_rcpt = {"a@agent.example": "550 5.1.1 no such user", "b@agent.example": "450 4.2.0 greylisted"}
    with mail_server(to_rcpt=to_rcpt) as server, pytest.raises(ConnectionError, match="greylisted"):
        Smtp(server.as_told()).deliver(sealed(to="a@agent.example, b@agent.example"))
    assert server.received == []


@pytest.mark.parametrize("trouble", [HANG, DROP, "451 4.3.0 not now"])
def test_a_letter_that_is_sent_again_is_the_same_letter(trouble: str) -> None:
    with mail_server(answers=[trouble]) as server:
        smtp = Smtp(server.as_told(timeout=1))
        with pytest.raises(ConnectionError):
            smtp.deliver(sealed(CHINESE))
        smtp.deliver(sealed(CHINESE))
    assert [got.content for got in server.received] == [CHINESE, CHINESE]


def test_a_server_that_dawdles_over_every_answer_does_not_get_its_time_for_each() -> None:
    with mail_server(slow=0.4) as server, pytest.raises(ConnectionError, match="timed out"):
        Smtp(server.as_told(timeout=0.9)).deliver(sealed(to="a@agent.example, b@agent.example"))


def test_a_server_that_does_not_answer_at_all_is_asked_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        told = SmtpServer(host="127.0.0.1", port=server.getsockname()[1], tls=Tls.NONE, timeout=0.2)
        with pytest.raises(ConnectionError, match=r"smtp 127\.0\.0\.1: .*timed out"):
            Smtp(told).deliver(sealed())
    with pytest.raises(ConnectionError, match=r"smtp 127\.0\.0\.1: .*refused"):
        Smtp(told).deliver(sealed())


# Ours to mend: no agent's address is at fault


@pytest.mark.parametrize("code", [530, 534, 535, 538])
@pytest.mark.parametrize("where", ["MAIL", "RCPT", "DATA"])
def test_a_server_that_wants_us_to_log_in_is_our_trouble(code: int, where: str) -> None:
    words = f"{code} 5.7.0 log in first"
    says: dict[str, dict[str, Any]] = {
        "MAIL": {"to_mail": words},
        "RCPT": {"to_rcpt": {"a@agent.example": words}},
        "DATA": {"answer": words},
    }
    with (
        mail_server(**says[where]) as server,
        pytest.raises(ConnectionError, match="log in first"),
    ):
        Smtp(server.as_told()).deliver(sealed())


@pytest.mark.parametrize(
    "says",
    [[b"554 5.3.2 go away"], [b"220 hello", b"554 5.3.2 go away", b"554 5.3.2 go away"], [b"what?"]],
    ids=["greeting", "EHLO", "no mail server"],
)
def test_a_server_that_does_not_want_to_talk_to_us_is_our_trouble(says: list[bytes]) -> None:
    with a_line(*says) as told, pytest.raises(ConnectionError, match=r"^smtp 127\.0\.0\.1: .*(go away|\?)"):
        Smtp(told).deliver(sealed())


def test_a_server_that_does_not_know_our_password_is_our_trouble(trusted: Authority) -> None:
    with mail_server(Tls.STARTTLS, trusted.certificate, known_only=True) as server:
        told = server.as_told(tls="starttls", ca_file=trusted.file, user=USER, password="wrong-one")
        with pytest.raises(ConnectionError, match="login as enforce failed: 535") as refused:
            Smtp(told).deliver(sealed())
    assert "wrong-one" not in f"{refused.value!r}{refused.value.__cause__!r}"
    assert server.received == []


def test_a_password_that_a_server_repeats_is_not_passed_on(trusted: Authority) -> None:
    # AUTH PLAIN sends "\0enforce\0s3cret" in base64.
    says = (b"220 hi", b"250-hi\r\n250 AUTH PLAIN", b"500 what is AUTH PLAIN AGVuZm9yY2UAczNjcmV0")
    with a_line(*says, certificate=trusted.certificate) as told:
        known = {"tls": Tls.TLS, "ca_file": trusted.file, "user": "enforce", "password": SecretStr("s3cret")}
        with pytest.raises(ConnectionError, match=r"500 what is AUTH PLAIN \*\*\*$") as refused:
            Smtp(told.model_copy(update=known)).deliver(sealed())
    assert refused.value.__cause__ is not None
    assert refused.value.__cause__.__cause__ is None


@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.TLS])
def test_a_server_for_which_nobody_vouches_gets_no_letter(
    tls: Tls, trusted: Authority, tmp_path: Path
) -> None:
    another, elsewhere = authority(tmp_path), authority(tmp_path, "mail.elsewhere.example")
    for shown, ca_file in ((trusted, another.file), (trusted, None), (elsewhere, elsewhere.file)):
        with mail_server(tls, shown.certificate) as server:
            told = server.as_told(tls=tls, ca_file=ca_file)
            with pytest.raises(ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
                Smtp(told).deliver(sealed())
        assert server.received == []


def test_a_server_without_encryption_gets_no_letter_that_was_to_be_encrypted() -> None:
    with mail_server() as server, pytest.raises(ConnectionError, match="STARTTLS"):
        Smtp(server.as_told(tls=Tls.STARTTLS)).deliver(sealed())
    assert server.received == []


def test_a_letter_is_never_altered_for_a_server_that_cannot_take_it_as_it_is() -> None:
    with mail_server(lacks=("8BITMIME",)) as server:
        with pytest.raises(ConnectionError, match="8BITMIME"):
            Smtp(server.as_told()).deliver(sealed(CHINESE))
        Smtp(server.as_told()).deliver(sealed(PLAIN))
    assert [got.content for got in server.received] == [PLAIN]


# The server, as it is told


@pytest.mark.parametrize(("tls", "port"), [("none", 25), ("starttls", 587), ("tls", 465)])
def test_the_protection_tells_the_port(tls: str, port: int) -> None:
    assert SmtpServer(host="mail.platform.example", tls=Tls(tls)).port == port


@pytest.mark.parametrize(
    ("said", "about"),
    [
        ({"tls": "none", "user": "u", "password": "s3cret"}, "password"),
        ({"user": "u"}, "password"),
        ({"password": "s3cret"}, "password"),
        ({"user": "u", "password": "s3cret密"}, "password"),
        ({"host": "mail.platform.example:587"}, "host"),
        ({"host": ""}, "host"),
        ({"port": 0}, "port"),
        ({"port": "s3cret"}, "port"),
        ({"timeout": 0}, "timeout"),
        ({"ca_file": "/nowhere"}, "ca_file"),
        ({"ca_file": __file__}, "ca_file"),
        ({"tls": "ssl"}, "tls"),
    ],
)
def test_a_server_that_cannot_be_or_is_not_safe_is_refused(said: dict[str, Any], about: str) -> None:
    with pytest.raises(ValidationError) as refused:
        SmtpServer.model_validate({"host": "::1"} | said)
    assert about in {error["loc"][0] for error in refused.value.errors()}
    assert "s3cret" not in str(refused.value)


def test_a_password_is_shown_nowhere() -> None:
    assert "s3cret" not in repr(SmtpServer(host="mail", user="u", password=SecretStr("s3cret")))
