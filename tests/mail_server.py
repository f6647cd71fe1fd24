"""A mail server that does to each letter what a test wants done to it."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from activities.smtp import SmtpServer, Tls

HANG, DROP = "hang", "drop"
ACCEPTED = "250 2.0.0 Ok: queued as 12AB"
USER, PASSWORD = "enforce", "geheim-密码".encode().hex()


@dataclass(frozen=True)
class Received:
    """A letter of which the server has every byte, whatever it said to it."""

    sender: str
    to: tuple[str, ...]
    content: bytes
    options: frozenset[str]
    encrypted: bool
    user: str


@dataclass
class MailServer:
    """What it says, by command; HANG and DROP are no words. `answers` come before `answer`, each once."""

    port: int = 0
    to_mail: str = ""
    to_rcpt: dict[str, str] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)
    answer: str = ACCEPTED
    to_quit: str = ""
    lacks: tuple[str, ...] = ()
    slow: float = 0
    received: list[Received] = field(default_factory=list)

    def as_told(self, **said: Any) -> SmtpServer:
        """This server, as the settings name it."""
        return SmtpServer(**{"host": "127.0.0.1", "port": self.port, "tls": Tls.NONE, "timeout": 20} | said)

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [line for line in responses if not any(word in line for word in self.lacks)]

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        await asyncio.sleep(self.slow)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return self.to_mail or "250 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        await asyncio.sleep(self.slow)
        if refused := self.to_rcpt.get(address):
            return refused
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        await asyncio.sleep(self.slow)
        assert isinstance(envelope.content, bytes)
        assert envelope.mail_from
        login = session.auth_data
        self.received.append(
            Received(
                sender=envelope.mail_from,
                to=tuple(envelope.rcpt_tos),
                content=envelope.content,
                options=frozenset(envelope.mail_options),
                encrypted=_wire(server).get_extra_info("ssl_object") is not None,
                user=login.login.decode() if isinstance(login, LoginPassword) else "",
            )
        )
        return await self._say(server, self.answers.pop(0) if self.answers else self.answer)

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        return await self._say(server, self.to_quit or "221 Bye")

    async def _say(self, server: SMTP, words: str) -> str:
        if words == HANG:
            await asyncio.Event().wait()
        if words == DROP:
            _wire(server).abort()
        return words


def _wire(server: SMTP) -> asyncio.Transport:
    assert isinstance(server.transport, asyncio.Transport)
    return server.transport


def _knows(server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: Any) -> AuthResult:
    known = (login.login, login.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=known, handled=False, auth_data=login)


@contextmanager
def mail_server(
    tls: Tls = Tls.NONE, certificate: ssl.SSLContext | None = None, *, known_only: bool = False, **says: Any
) -> Iterator[MailServer]:
    """Run a mail server in a thread of its own, until the context ends."""
    told = MailServer(**says)

    def greet() -> SMTP:
        return SMTP(
            told,
            loop=loop,
            hostname="mail.platform.example",
            enable_SMTPUTF8=True,
            tls_context=certificate if tls is Tls.STARTTLS else None,
            require_starttls=tls is Tls.STARTTLS,
            auth_required=known_only,
            auth_require_tls=tls is Tls.STARTTLS,
            authenticator=_knows,
        )

    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    opening = loop.create_server(greet, "127.0.0.1", 0, ssl=certificate if tls is Tls.TLS else None)
    server = asyncio.run_coroutine_threadsafe(opening, loop).result(10)
    told.port = server.sockets[0].getsockname()[1]
    try:
        yield told
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _stop(server: asyncio.Server) -> None:
    server.close()
    talking = asyncio.all_tasks() - {asyncio.current_task()}
    for task in talking:
        task.cancel()
    await asyncio.gather(*talking, return_exceptions=True)
