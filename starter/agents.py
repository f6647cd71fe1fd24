"""What stands about an agent: account, numbers, cases, offences that count, debt; in one snapshot."""

from collections import Counter
from datetime import date, datetime
from decimal import Decimal

from pydantic import BaseModel, ConfigDict
from sqlalchemy import func, select

from activities.fines import balance
from registry import waits
from registry.models import Account, Agent, Case, Fine, Number
from registry.session import Sessions, snapshot
from rulebook.money import ZERO
from rulebook.vocabulary import AccountStatus, Awaiting, FineStatus, Kind, Stage
from starter.settings import Refused


class CaseOfAgent(BaseModel):
    """One case of the agent; `outcome` is none while it is open, `awaiting` is what waits for an officer."""

    model_config = ConfigDict(frozen=True)

    case_no: str
    kind: Kind
    number: str
    opened_at: datetime
    outcome: Stage | None
    offence: int | None
    fine: Decimal
    paid: Decimal
    due: Decimal
    awaiting: tuple[Awaiting, ...] = ()


class Resting(BaseModel):
    """A number in quarantine."""

    model_config = ConfigDict(frozen=True)

    number: str
    until: date


class AgentView(BaseModel):
    """An agent as it stands; `debt` is what is due on fines that stand, in yuan."""

    model_config = ConfigDict(frozen=True)

    agent_id: str
    name: str
    account: AccountStatus
    by_case: str | None
    qualified: bool
    numbers: dict[str, int]
    offences: dict[Kind, int]
    debt: Decimal
    cases: tuple[CaseOfAgent, ...]
    quarantine: tuple[Resting, ...]


def view(on_record: Sessions, agent_id: str) -> AgentView:
    """The agent as it stands. Raises `Refused` where there is none."""
    with snapshot(on_record) as session:
        agent = session.get(Agent, agent_id)
        if agent is None:
            raise Refused(f"no agent {agent_id} is in the registry")
        account = session.get_one(Account, agent_id)
        numbers = session.scalars(
            select(Number).where(Number.agent_id == agent_id).order_by(Number.number)
        ).all()
        cases = []
        its_cases = select(Case).where(Case.agent_id == agent_id).order_by(Case.opened_at)
        opened = session.scalars(its_cases).all()
        awaiting = waits.by_case(session, [case.case_no for case in opened])
        for case in opened:
            money = balance(session, case.case_no)
            standing = (Fine.case_no == case.case_no) & (Fine.status != FineStatus.VOID)
            cases.append(
                CaseOfAgent(
                    case_no=case.case_no,
                    kind=case.kind,
                    number=case.number,
                    opened_at=case.opened_at,
                    outcome=case.outcome,
                    offence=session.scalar(select(func.max(Fine.offence)).where(standing)),
                    fine=money.fine,
                    paid=money.paid,
                    due=money.due,
                    awaiting=tuple(sorted(awaiting[case.case_no])),
                )
            )
        return AgentView(
            agent_id=agent_id,
            name=agent.name,
            account=account.status,
            by_case=account.closed_by or account.shut_down_by or account.suspended_by,
            qualified=agent.disqualified_at is None,
            numbers=dict(Counter(f"{n.status}, {n.holder}" for n in numbers)),
            offences=dict(Counter(case.kind for case in cases if case.offence)),
            debt=sum((case.due for case in cases), ZERO),
            cases=tuple(cases),
            quarantine=tuple(
                Resting(number=n.number, until=n.quarantined_until) for n in numbers if n.quarantined_until
            ),
        )
