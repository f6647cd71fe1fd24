"""Why each thing was done to an agent in a case, and what comes next if nobody acts (rulebook 5.6).

All of it is read from the registry, in one snapshot: for open and ended cases alike, and without Temporal.
"""

from datetime import datetime

from activities.filings import shown
from registry.session import Sessions, snapshot
from starter.explain.coming import coming
from starter.explain.deeds import deed
from starter.explain.record import Record, cases_named
from starter.explain.rules import SAYS
from starter.explain.told import Explained, Other
from starter.settings import Refused


def explain(on_record: Sessions, named: str, now: datetime) -> Explained:
    """Explain a case by its case number, workflow id or 400 number (then the newest).

    Raises `Refused` where there is none.
    """
    with snapshot(on_record) as session:
        found = cases_named(session, named)
        if not found:
            raise Refused(f"no case {named} is in the registry")
        case, *others = found
        of = Record.of(session, case)
        deeds = tuple(deed(of, line) for line in of.lines)
        # On a virtual clock, the case may be ahead of the officer who asks.
        to_come = coming(of, as_of=max([now, *(line.at for line in of.lines)]))
        cited = {rule for done in deeds for rule in done.rules} | {rule for n in to_come for rule in n.rules}
        return Explained(
            case_no=case.case_no,
            workflow_id=case.workflow_id,
            kind=case.kind,
            number=case.number,
            customer=of.number.customer,
            agent_id=case.agent_id,
            agent_name=case.agent.name,
            policy=case.policy,
            outcome=case.outcome,
            closed_at=case.closed_at,
            balance=of.balance,
            deeds=deeds,
            filings=tuple(map(shown, of.filings)),
            next=to_come,
            rules={rule: says for rule, says in SAYS.items() if rule in cited},
            others=tuple(Other(case_no=o.case_no, kind=o.kind, outcome=o.outcome) for o in others),
        )
