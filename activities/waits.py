"""The platform's own clock: what has waited too long for an officer is brought up again (rulebook 5.7)."""

from datetime import date, datetime

from sqlalchemy import or_, update
from temporalio import activity

from activities.advice import command
from activities.channels import Addresses, Channel, Letter, mail
from activities.letters import environment
from activities.numbers import AsOf
from registry import waits
from registry.calendar import calendar
from registry.models import Wait
from registry.session import Sessions
from registry.waits import Waiting
from rulebook.policy import in_force
from rulebook.vocabulary import day_of


class Waits:
    """The activities on what waits for officers."""

    def __init__(self, sessions: Sessions, channel: Channel, addresses: Addresses) -> None:
        self._sessions = sessions
        self._channel = channel
        self._addresses = addresses
        self._mails = environment()

    @activity.defn
    def raise_waits(self, order: AsOf) -> int:
        """Bring up what has waited for officers too long, once each working day; returns how much that is.

        1. What waits too long is listed. On a day on which all of it was brought up already, no mail leaves.
        2. The mails leave outside any transaction, under the name of the day: a crash here sends them once
           more, as the same mails, never not at all.
        3. That it was brought up is recorded.
        """
        today = day_of(order.at)
        limits = in_force(today).officers
        with self._sessions() as session:
            if not calendar(session).works(today):
                return 0
            waiting = waits.waiting(session, order.at)
        late = [wait for wait in waiting if wait.working_days >= limits.raise_after]
        if all(wait.raised_on and wait.raised_on >= today for wait in late):
            return 0
        later = [wait for wait in late if wait.working_days >= limits.escalate_after]

        try:
            self._send("waits", self._addresses.officers, late, order.at, limits.raise_after)
        finally:  # the supervisor hears of it also where the officers' mail doesn't arrive
            if later:
                self._send("escalated", self._addresses.supervisor, later, order.at, limits.escalate_after)

        self._record(today, late, later)
        return len(late)

    def _send(self, what: str, to: str, late: list[Waiting], at: datetime, limit: int) -> None:
        today = day_of(at)
        text = self._mails.get_template(f"zh/officers/{what}.txt.j2").render(
            waits=late,
            commands=[command(wait.what, wait.case_no, wait.number) for wait in late],
            limit=limit,
            today=today,
            at=at,
        )
        name, subject = f"{what}-{today}", f"{text.splitlines()[0]} {today}"
        content = mail(self._addresses.sender, to, subject, at, name, text)
        self._channel.deliver(Letter(name=name, to=to, content=content))

    def _record(self, today: date, late: list[Waiting], later: list[Waiting]) -> None:
        raised = (
            update(Wait)
            .where(Wait.id.in_([wait.id for wait in late]))
            .where(or_(Wait.raised_on.is_(None), Wait.raised_on < today))
            .values(raised=Wait.raised + 1, raised_on=today)
        )
        escalated = (
            update(Wait)
            .where(Wait.id.in_([wait.id for wait in later]), Wait.escalated_on.is_(None))
            .values(escalated_on=today)
        )
        with self._sessions.begin() as session:
            session.execute(raised)
            session.execute(escalated)
