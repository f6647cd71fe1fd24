"""The names of the workflows: how who starts, lists or commands them knows them without what they do."""

from rulebook.vocabulary import Kind

CLAUSES = {
    Kind.FRAUD: "FraudCase",
    Kind.SECONDARY_SALE: "SecondarySaleCase",
    Kind.SERVICE_FAILURE: "ServiceFailureCase",
}
"""The workflow that carries out the clause of a kind."""

SERIOUS_CIRCUMSTANCES = "SeriousCircumstances"
APPEAL = "Appeal"
DISMISSAL = "Dismissal"
RESTITUTION = "Restitution"
REINSTATEMENT = "Reinstatement"
BESIDE = (SERIOUS_CIRCUMSTANCES, APPEAL, DISMISSAL, RESTITUTION, REINSTATEMENT)
"""What goes on beside a case, or after it."""
LATE_PAYMENT = "LatePayment"
AFTER_CASE = "AfterCase"
DAILY_ROUND = "DailyRound"
RENEWAL_DUE = "RenewalDue"
DETECTION_ROUND = "DetectionRound"


def deliveries(task_queue: str) -> str:
    """The task queue, beside that of the cases, of what leaves the house and may have to wait for others."""
    return f"{task_queue}-deliveries"
