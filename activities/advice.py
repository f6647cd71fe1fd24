"""What an officer types for what waits: in mails, in a story, in a list."""

from rulebook.vocabulary import Awaiting

_COMMANDS = {
    Awaiting.VERIFICATION: ("enforce verify {case} --pass", 'or --fail --reason "..."'),
    Awaiting.APPEAL: (
        'enforce decide {case} --uphold --reason "..."',
        "or --overturn; by an officer who had no part in the case",
    ),
    Awaiting.APPROVAL: ("enforce approve {case}", "or reject; by another officer than the one who proposed"),
    Awaiting.FILING: ("enforce filing FILING submitted", "or acknowledged, refused, waived"),
    Awaiting.DELIVERY: ("enforce served {case} --by HOW --on DATE --proof FILE", ""),
    Awaiting.RESUMPTION: ("enforce resume {case}", "the case is held: its clock stands still until then"),
    Awaiting.RENEWAL: ("enforce renewed {number} --until DATE", ""),
    Awaiting.REINSTATEMENT: (
        'enforce reinstate {case} --reason "..."',
        "the fine was paid in time, and known too late; or --keep",
    ),
    Awaiting.REFUND: ("enforce refunded {case} --reference REFERENCE", ""),
    Awaiting.SUBSTITUTE: ("enforce substitute {case} NUMBER --with NUMBER", 'or --reason "..."'),
    Awaiting.WITHDRAWAL: ("enforce filing FILING withdrawn", "once its recipient has the withdrawal"),
    Awaiting.REVIEW: ('enforce review {case} FINED --lower --reason "..."', "or --keep"),
    Awaiting.REFUSED_MESSAGE: ("enforce case {case}", "a message was refused: send it as it should be"),
}


def command(what: Awaiting, case_no: str, number: str) -> str:
    """What an officer types to do what waits."""
    return _COMMANDS[what][0].format(case=case_no, number=number)


def advice(what: Awaiting, case_no: str, number: str) -> str:
    """The same, with what may be typed instead, or has to be known."""
    also = _COMMANDS[what][1]
    return command(what, case_no, number) + (f"   ({also})" if also else "")
