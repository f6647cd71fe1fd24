"""Which clauses of the rulebook each step of the audit trail carries out."""

import re
from typing import NamedTuple

from rulebook.vocabulary import Kind, NoticeKind, Stage

SAYS = {
    "preamble": "a further report about an open violation joins its case as evidence",
    "1": "fraud: the customer does illegal business",
    "1.1": "the suspected number is frozen at once",
    "1.2": "the agent's account is suspended, reversibly",
    "1.3": "the agent is fined for the number, payable within the limit",
    "1.4": "paid and not serious: the case ends; an officer may reopen the account and unfreeze the number",
    "1.5": "not paid in time: the account is shut down, all its numbers are taken back",
    "1.6": "serious circumstances, found by two officers: closed for good, disqualified, reclaimed, filed",
    "2": "secondary sale: a number certified for one customer passed on to another",
    "2.1": "the agent is ordered to rectify within the limit",
    "2.2": "rectified in time, and verified by an officer: the case ends without a fine",
    "2.3": "not rectified in time: a fine, higher with each earlier offence",
    "2.4": "the punishment notice states the fine, payable within the limit",
    "2.5": "not paid in time: the account is shut down, all its numbers are taken back",
    "3": "service failure: the customer is served badly, late or not at all",
    "3.1": "the complaint is put to the agent, who serves the customer within the limit",
    "3.2": "served, and confirmed by the customer or an officer: the case ends",
    "3.3": "still no service: the number is taken back, served directly and renewed by the platform",
    "4.2": "working days follow the State Council's arrangement; a deadline is provisional until it is known",
    "4.3": "nobody is punished early: a deadline is computed anew, and never moves earlier",
    "4.4": "an officer may extend a limit or hold a case; an appeal stops the clock until it is decided",
    "4.5": "what arrived in time and is not checked yet holds the penalty back",
    "4.6": "the clock starts when the notice is served; what can't be delivered, an officer serves",
    "5.1": "the agent can appeal; an officer decides who had no part in the case",
    "5.2": "a case that did not stand is undone, in reverse order",
    "5.3": "reclaimed numbers rest in quarantine before anybody else can have them",
    "5.4": "a case keeps the policy that was in force when it was opened",
    "5.5": "only cases that stood count as earlier offences",
    "5.6": "what came in is on record, also where it was not understood",
    "5.7": "what waits for an officer is brought up again, and again",
    "6.1": "each payment has a bank reference, which counts once",
    "6.2": "a fine is settled when the payments reach it; what is paid above it is owed back",
    "6.3": "a payment after the deadline lowers the debt; it undoes nothing by itself, an officer may",
    "7.1": "of two cases that shut an account down, one does, and both know",
    "7.2": "when an account is shut down, the agent's other cases end; their fines stay due",
    "7.3": "earlier offences are counted in one transaction with the fine",
}
"""What each clause of the rulebook comes to, in a line."""


class Means(NamedTuple):
    """What a step of the audit trail is: by which clauses, a penalty or not, told of by which notice."""

    step: str
    rules: str
    told: NoticeKind | None = None
    penalty: bool = False


_ANY_NOTICE = "|".join(NoticeKind)
# Of the clauses 1, 2 and 3, those of the case's kind are meant.
_STEPS = (
    Means("open", "1 2 3 5.4"),
    Means("report-.+", "preamble"),
    Means("freeze", "1.1", NoticeKind.PUNISHMENT, penalty=True),
    Means("account-suspend", "1.2", NoticeKind.PUNISHMENT, penalty=True),
    Means("fine", "1.3 2.3 7.3", NoticeKind.PUNISHMENT, penalty=True),
    Means("account-shutdown", "1.5 2.5 7.1", NoticeKind.SHUTDOWN, penalty=True),
    Means("reclaim", "1.5 2.5 5.3", NoticeKind.SHUTDOWN, penalty=True),
    Means("take-back", "3.3", NoticeKind.TAKE_BACK, penalty=True),
    Means("serious-.+-(proposed|rejected)", "1.6"),
    Means("serious-.+-close", "1.6", NoticeKind.PERMANENT_CLOSURE, penalty=True),
    Means("serious-.+-reclaim", "1.6 5.3", NoticeKind.PERMANENT_CLOSURE, penalty=True),
    Means("filings", "1.6", penalty=True),
    Means("filing-.+", "1.6"),
    Means("rectification-[0-9]+|verify-.+", "2.2 3.2"),
    Means("customer-confirmed", "3.2"),
    Means("payment-.+", "6.1 6.2"),
    Means("(extend|clock|hold|resume)-.+", "4.4", NoticeKind.DEADLINE),
    Means(f"notice-({_ANY_NOTICE})-deadline-.+", "4.2 4.3", NoticeKind.DEADLINE),
    Means(f"notice-({_ANY_NOTICE})(-.+)?-undeliverable", "4.6"),
    Means("(bounced|again)-.+", "4.6"),
    Means("notice-rectification-order", "2.1"),
    Means("notice-service-order", "3.1"),
    Means("notice-punishment", "1.3 2.4"),
    Means("notice-shutdown", "1.5 2.5"),
    Means("notice-take-back(-customer)?", "3.3"),
    Means("notice-permanent-closure", "1.6"),
    Means("notice-deadline(-[0-9]+)?", "4.3 4.4"),
    Means("notice-appeal-decision(-[0-9]+)?", "5.1"),
    Means("notice-undone(-customer)?", "5.2"),
    Means("notice-fine-lowered-.+", "5.5"),
    Means("notice-reinstated", "6.3"),
    Means("appeal-.+", "5.1"),
    Means("decide-.+", "5.1", NoticeKind.APPEAL_DECISION),
    Means("(undo(-.+)?|fine-void)", "5.2", NoticeKind.UNDONE),
    Means("(account-reopen|unfreeze)(-refused)?", "5.2"),  # as dismissed cases did before they were undone
    Means("(reopen|unfreeze)-.+", "1.4"),
    Means("reinstate-.+", "6.3", NoticeKind.REINSTATED),
    Means("review-after-.+", "5.5", NoticeKind.FINE_LOWERED),
    Means("refund-.+", "5.2"),
    Means("returned-.+", "6.2"),
    Means("substitute-.+", "5.2 5.3"),
    Means("quarantine-.+", "5.3"),
    Means("renewal-.+", "3.3"),
    Means("account-closed", "7.2"),
    Means("refused-.+", "5.6"),
    Means("close|notice-closing", "", NoticeKind.CLOSING),
)
_ENDINGS = {
    Stage.RECTIFIED: "2.2 3.2",
    Stage.SETTLED: "1.4 2.4 6.2",
    Stage.SHUT_DOWN: "1.5 2.5",
    Stage.TAKEN_BACK: "3.3",
    Stage.OVERTAKEN: "7.2",
    Stage.CLOSED_FOR_GOOD: "1.6",
    Stage.DISMISSED: "5.2",
    Stage.OVERTURNED: "5.1 5.2",
}


def meaning(step: str) -> Means:
    """What a step is; without clauses where it isn't known."""
    found = (means for means in _STEPS if re.fullmatch(means.step, step, re.DOTALL))
    return next(found, Means(step, ""))


def rules_of(step: str, kind: Kind, outcome: Stage | None = None) -> tuple[str, ...]:
    """The clauses that a step carries out in a case of a kind; none for a step that isn't known.

    `outcome` is how the case was closed, for the step that closes it and its notice.
    """
    closes = step in ("close", "notice-closing")
    rules = _ENDINGS.get(outcome, "") if closes and outcome else meaning(step).rules
    return tuple(rule for rule in rules.split() if rule[0] not in "123" or rule[0] == kind.clause)
