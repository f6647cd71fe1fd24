"""The search attributes of a case: what can be filtered and sorted in the Web UI and by `enforce cases`."""

from temporalio.common import SearchAttributeKey

CASE_NO = SearchAttributeKey.for_keyword("CaseNo")
AGENT = SearchAttributeKey.for_keyword("Agent")
NUMBER = SearchAttributeKey.for_keyword("Number")
STAGE = SearchAttributeKey.for_keyword("Stage")
DEADLINE = SearchAttributeKey.for_datetime("Deadline")
FINE_YUAN = SearchAttributeKey.for_int("FineYuan")
OFFENCE = SearchAttributeKey.for_int("Offence")
AWAITING = SearchAttributeKey.for_keyword_list("Awaiting")

ALL = (CASE_NO, AGENT, NUMBER, STAGE, DEADLINE, FINE_YUAN, OFFENCE, AWAITING)
"""They must be registered with the namespace before the first case starts, or its tasks fail in silence."""
