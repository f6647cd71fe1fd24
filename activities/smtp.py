"""Letters by mail: handed to a mail server, whose own words are the receipt."""

import re
import smtplib
import ssl
from base64 import b64encode
from collections.abc import Sequence
from contextlib import closing, suppress
from email.parser import BytesParser
from email.policy import default
from email.utils import getaddresses
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from time import monotonic
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator

from activities.channels import Letter, Undeliverable
from rulebook.vocabulary import one_line

# Answers about us, wherever they come: log in, log in better, encrypt (RFC 4954).
_ABOUT_US = (530, 534, 535, 538)
_WORDS = 300  # characters of a server's answer that are kept


class Tls(StrEnum):
    """How the connection to a mail server is protected."""

    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"

    @property
    def port(self) -> int:
        """The port on which servers expect it."""
        return {Tls.NONE: 25, Tls.STARTTLS: 587, Tls.TLS: 465}[self]


def _host(host: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", host):
        try:
            ip_address(host)
        except ValueError:
            raise ValueError("is no host name (a port is set by itself)") from None
    return host


class SmtpServer(BaseModel):
    """A mail server that takes our letters.

    `ca_file` holds the authorities that may vouch for it, in place of the system's. `timeout` is how many
    seconds all its answers to one letter may take: less than the minute that the step has.
    """

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, validate_default=True)

    host: Annotated[str, AfterValidator(_host)]
    tls: Tls = Tls.STARTTLS
    port: Annotated[int, Field(ge=1, le=65535)] = Field(default_factory=lambda said: said["tls"].port)
    ca_file: Path | None = None
    user: str = ""
    password: SecretStr = SecretStr("")
    timeout: Annotated[float, Field(gt=0, le=50)] = 30

    @field_validator("ca_file")
    @classmethod
    def _holds_authorities(cls, file: Path | None) -> Path | None:
        try:
            if file:
                ssl.create_default_context(cafile=file)
        except OSError as error:
            raise ValueError(f"holds no certificates: {error}") from None
        return file

    @field_validator("password")
    @classmethod
    def _is_safe(cls, password: SecretStr, info: ValidationInfo) -> SecretStr:
        user = info.data.get("user", "")
        if bool(user) != bool(password):
            raise ValueError("is given with a user, and a user with a password, or neither")
        if password and info.data.get("tls") is Tls.NONE:
            raise ValueError("leaves by TLS only, and tls is none")
        if not (user + password.get_secret_value()).isascii():
            raise ValueError("and user have to be ASCII")
        return password


class _Answer(NamedTuple):
    """What a mail server said to a command."""

    code: int
    words: bytes

    @property
    def is_yes(self) -> bool:
        return 200 <= self.code < 300

    @property
    def is_final(self) -> bool:
        """Whether it will say so again, for reasons that are not ours."""
        return 500 <= self.code < 600 and self.code not in _ABOUT_US

    def __str__(self) -> str:
        return one_line(f"{self.code} {self.words.decode('utf-8', 'replace')}")[:_WORDS]


class _Conversation(smtplib.SMTP):
    """A connection all of whose answers have to come within its time."""

    def __init__(self, server: SmtpServer, **how: Any) -> None:
        self._until = monotonic() + server.timeout
        super().__init__(server.host, server.port, timeout=server.timeout, **how)

    def getreply(self) -> tuple[int, bytes]:
        if self.sock:
            self.sock.settimeout(max(0.001, self._until - monotonic()))
        return super().getreply()


class _TlsConversation(_Conversation, smtplib.SMTP_SSL):
    """The same, under TLS from the first byte."""


class Smtp:
    """A mail server. Each letter has a connection of its own, so that none suffers from another's trouble.

    Where the server dies between the last byte and its answer, the letter is sent once more, the same bytes
    under the same Message-ID: twice rather than not at all.
    """

    def __init__(self, server: SmtpServer) -> None:
        self._server = server
        self._trusted = ssl.create_default_context(cafile=server.ca_file)

    def __str__(self) -> str:
        return f"smtp {self._server.host}"

    def deliver(self, letter: Letter) -> str:
        """Hand the letter over; the receipt is what the server answered.

        Raises `Undeliverable` where the server refuses the letter, or every address of it, for good, and
        `ConnectionError` for all that may be better next time or is ours to mend.
        """
        to = tuple(dict.fromkeys(address for _, address in getaddresses([letter.to]) if address))
        if not to:
            raise Undeliverable("there is no address to deliver it to")
        try:
            with closing(self._connect()) as connection:
                self._log_in(connection)
                receipt = self._hand_over(connection, _sender(letter.content), to, letter.content)
                # The letter is taken: nothing that may happen now changes that, so nothing is waited for.
                with suppress(OSError, smtplib.SMTPException):
                    connection.putcmd("quit")
                return receipt
        except (OSError, smtplib.SMTPException) as error:
            raise ConnectionError(f"{self}: {one_line(_words(error))[:_WORDS]}") from error

    def _connect(self) -> smtplib.SMTP:
        if self._server.tls is Tls.TLS:
            return _TlsConversation(self._server, context=self._trusted)
        connection = _Conversation(self._server)
        if self._server.tls is Tls.STARTTLS:
            try:
                connection.starttls(context=self._trusted)
            except BaseException:
                connection.close()
                raise
        return connection

    def _log_in(self, connection: smtplib.SMTP) -> None:
        connection.ehlo_or_helo_if_needed()
        if not self._server.user:
            return
        password = self._server.password.get_secret_value()
        try:
            connection.login(self._server.user, password)
        except smtplib.SMTPException as error:
            words = _words(error)
            # Some servers repeat the command that they didn't like.
            for told in (_base64(f"\0{self._server.user}\0{password}"), _base64(password), password):
                words = words.replace(told, "***")
            raise smtplib.SMTPException(f"login as {self._server.user} failed: {words}") from None

    def _hand_over(self, connection: smtplib.SMTP, sender: str, to: Sequence[str], content: bytes) -> str:
        answer = _Answer(*connection.mail(sender, self._options(connection, sender, to, content)))
        if not answer.is_yes:
            raise self._no(f"{sender}: {answer}", final=answer.is_final)

        said = {address: _Answer(*connection.rcpt(address)) for address in to}
        refused = {address: answer for address, answer in said.items() if not answer.is_yes}
        which = "; ".join(f"{address}: {answer}" for address, answer in refused.items())
        if len(refused) == len(to):
            raise self._no(which, final=all(answer.is_final for answer in refused.values()))

        try:
            answer = _Answer(*connection.data(content))
        except smtplib.SMTPDataError as error:
            raise self._no(_words(error), final=_answer(error).is_final) from error
        if not answer.is_yes:
            raise self._no(str(answer), final=answer.is_final)
        return f"{self}: {answer}" + (f" (not to {which})" if refused else "")

    def _options(
        self, connection: smtplib.SMTP, sender: str, to: Sequence[str], content: bytes
    ) -> Sequence[str]:
        """What the server has to know of the letter beforehand, so that it takes it as it is."""
        options = []
        if connection.has_extn("size"):
            options.append(f"SIZE={len(content)}")
        if not content.isascii():
            if not connection.has_extn("8bitmime"):
                raise smtplib.SMTPException(
                    "the letter is 8-bit text, which the server can't take (8BITMIME)"
                )
            options.append("BODY=8BITMIME")
        if beyond := [address for address in (sender, *to) if not address.isascii()]:
            if not connection.has_extn("smtputf8"):
                what = f"the server can't take addresses beyond ASCII (SMTPUTF8): {', '.join(beyond)}"
                raise self._no(what, final=sender.isascii())
            options.append("SMTPUTF8")
        return options

    def _no(self, why: str, *, final: bool) -> Exception:
        return Undeliverable(f"{self}: {why}") if final else smtplib.SMTPException(why)


def _sender(content: bytes) -> str:
    """The address that the letter is from: what can't be delivered later on comes back to it."""
    head = content.partition(b"\r\n\r\n")[0]  # the library would go through the body line by line, too
    header: Any = BytesParser(policy=default).parsebytes(head)["From"]
    sender: str = header.addresses[0].addr_spec
    return sender


def _answer(error: smtplib.SMTPResponseException) -> _Answer:
    words = error.smtp_error
    return _Answer(error.smtp_code, words.encode() if isinstance(words, str) else words)


def _words(error: Exception) -> str:
    said = str(_answer(error)) if isinstance(error, smtplib.SMTPResponseException) else str(error)
    return said or type(error).__name__


def _base64(text: str) -> str:
    return b64encode(text.encode()).decode()
