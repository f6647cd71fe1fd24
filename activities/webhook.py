"""Letters by the platform's own gateway (SMS, WeChat): a signed HTTP request, as Standard Webhooks has it."""

import hashlib
import hmac
import json
import ssl
import time
from base64 import b64decode, b64encode
from contextlib import closing
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from activities.channels import Letter, Undeliverable
from rulebook.vocabulary import one_line

_PREFIX = "whsec_"
# Answers about us (the URL, the secret, a proxy) or about the moment, and not about the letter.
_TRY_AGAIN = (401, 403, 404, 405, 407, 408, 410, 425, 429)
_ANSWER = 1000  # bytes of an answer that are read
_WORDS = 200  # characters of it that are kept


def _key(secret: str) -> bytes:
    told = secret.removeprefix(_PREFIX).rstrip("=")
    try:
        key = b64decode(told + "=" * (-len(told) % 4), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith(_PREFIX) or len(key) < 24:
        raise ValueError(f"has to be {_PREFIX} and at least 24 bytes in base64")
    return key


def sign(secret: str, webhook_id: str, timestamp: int, body: bytes) -> str:
    """The signature of a webhook (standardwebhooks.com); `timestamp` is in seconds since 1970."""
    signed = hmac.digest(_key(secret), f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{b64encode(signed).decode()}"


def _url(url: str) -> str:
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("is no URL")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is no URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("has to begin with https:// and a host")
    if parts.scheme == "http" and not _is_here(host):
        raise ValueError("has to begin with https://: only this machine itself is spoken to without TLS")
    if parts.username is not None:
        raise ValueError("may hold no user: the gateway knows us by the signature")
    return url


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _secret(secret: SecretStr) -> SecretStr:
    _key(secret.get_secret_value())
    return secret


class Gateway(BaseModel):
    """Where letters are posted, and the secret that the gateway knows us by.

    `timeout` is how many seconds each of its answers (to the call, TLS, the letter) may take: together less
    than the minute that the step has.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    url: Annotated[str, AfterValidator(_url), Field(repr=False)]
    secret: Annotated[SecretStr, AfterValidator(_secret)]
    timeout: Annotated[float, Field(gt=0, le=20)] = 15


class Webhook:
    """A gateway that reaches people by phone. A letter keeps its id and body, however often it is sent."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._to = urlsplit(gateway.url)
        self._trusted = ssl.create_default_context()

    def __str__(self) -> str:
        return f"webhook {self._to.hostname}"

    def deliver(self, letter: Letter) -> str:
        """Hand the letter over; the receipt is what the gateway answered.

        Raises `Undeliverable` where the gateway refuses it for good, and `ConnectionError` for all that may
        be better next time or is ours to mend.
        """
        if not letter.to.strip() and not letter.phone.strip():
            raise Undeliverable("there is neither a phone nor an address to deliver it to")
        mail = BytesParser(policy=default).parsebytes(letter.content)
        body = _body(letter, mail)
        webhook_id = f"msg_{hashlib.sha256(mail['Message-ID'].encode()).hexdigest()[:32]}"
        timestamp = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "enforce-400",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(self._gateway.secret.get_secret_value(), webhook_id, timestamp, body),
        }
        try:
            status, answer = self._post(body, headers)
        except (OSError, HTTPException) as error:
            raise ConnectionError(f"{self}: {one_line(str(error)) or type(error).__name__}") from error
        said = f"{self}: {answer}"
        if 200 <= status < 300:
            return said
        if 400 <= status < 500 and status not in _TRY_AGAIN:
            raise Undeliverable(said)
        raise ConnectionError(said)

    def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
        path = (self._to.path or "/") + (f"?{self._to.query}" if self._to.query else "")
        with closing(self._connection()) as connection:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            try:
                words = one_line(answer.read(_ANSWER).decode("utf-8", "replace"))[:_WORDS]
            except (OSError, HTTPException):
                words = ""  # the status is the answer: with it, the letter is taken or not
        return answer.status, f"{answer.status} {words or one_line(answer.reason)[:_WORDS]}".strip()

    def _connection(self) -> HTTPConnection:
        host, port, timeout = self._to.hostname or "", self._to.port, self._gateway.timeout
        if self._to.scheme == "http":
            return HTTPConnection(host, port, timeout=timeout)
        return HTTPSConnection(host, port, timeout=timeout, context=self._trusted)


def _body(letter: Letter, mail: EmailMessage) -> bytes:
    date: Any = mail["Date"]
    plain = mail.get_body(("plain",))
    told = {
        "type": "notice",
        "timestamp": date.datetime.isoformat(),
        "data": {
            "name": letter.name,
            "to": letter.to,
            "phone": letter.phone,
            "subject": str(mail["Subject"]),
            "text": plain.get_content().replace("\r\n", "\n") if plain else "",
            "message_id": str(mail["Message-ID"]),
            "letter": b64encode(letter.content).decode(),
            "sha256": hashlib.sha256(letter.content).hexdigest(),
        },
    }
    return json.dumps(told, ensure_ascii=False).encode()
