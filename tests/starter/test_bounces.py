"""Mails that come back are understood whichever server sends them back, and nothing else is taken for one."""

from email import policy
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.mime.text import MIMEText
from email.parser import BytesParser, Parser
from pathlib import Path

import pytest

from activities.channels import mail
from starter.bounces import Bounce, read
from starter.settings import Refused
from tests.world import shanghai

NOTICE = "SS-2026-00042-N1"
LETTER = mail(
    "compliance@platform.example",
    "gone@agent.example",
    f"责令整改通知书 {NOTICE}",
    shanghai("2026-02-12"),
    f"{NOTICE}.20260212",
    "通知",
    html="<p>通知</p>",
    pdf=("a.pdf", b"%PDF-"),
)
STATUS = """Reporting-MTA: dns; mx.agent.example

Final-Recipient: rfc822; gone@agent.example
Action: {action}
Status: 5.1.1
{diagnostic}"""


def _returned(folder: Path, original: str, action: str = "failed", diagnostic: str = "") -> Path:
    """A delivery status notification, with the whole letter, with its header only, or without."""
    report = MIMEMultipart("report")
    report.set_param("report-type", "delivery-status")
    report["Subject"] = "Undelivered Mail Returned to Sender"
    report.attach(MIMEText("I'm sorry to have to inform you 退信", "plain", "utf-8"))
    status = MIMENonMultipart("message", "delivery-status")
    status.set_payload(
        Parser()
        .parsestr(
            "Content-Type: message/delivery-status\n\n" + STATUS.format(action=action, diagnostic=diagnostic)
        )
        .get_payload()
    )
    report.attach(status)
    if original == "whole":
        report.attach(MIMEMessage(BytesParser(policy=policy.compat32).parsebytes(LETTER)))
    elif original == "header":
        report.attach(MIMEText(LETTER.partition(b"\r\n\r\n")[0].decode(), "rfc822-headers"))
    elif original == "reference":
        report["In-Reply-To"] = f"<{NOTICE}.20260212@platform.example>"
    file = folder / "returned.eml"
    file.write_bytes(report.as_bytes())
    return file


@pytest.mark.parametrize("original", ["whole", "header", "reference"])
def test_a_mail_that_came_back_says_which_notice_it_was_and_why(tmp_path: Path, original: str) -> None:
    file = _returned(tmp_path, original, diagnostic="Diagnostic-Code: smtp; 550 no such user\n")
    assert read(file) == Bounce(NOTICE, "smtp; 550 no such user")


def test_without_a_diagnosis_the_status_is_the_reason(tmp_path: Path) -> None:
    assert read(_returned(tmp_path, "whole")).reason == "5.1.1"


def test_the_reason_is_one_line_and_not_endless(tmp_path: Path) -> None:
    hostile = "Diagnostic-Code: smtp; 550 \x1b[31m" + "x" * 900 + "\n"
    reason = read(_returned(tmp_path, "whole", diagnostic=hostile)).reason
    assert reason.isprintable()
    assert len(reason) <= 200


@pytest.mark.parametrize("action", ["delayed", "delivered", "relayed"])
def test_a_mail_that_is_only_late_has_not_bounced(tmp_path: Path, action: str) -> None:
    with pytest.raises(Refused, match="no failure"):
        read(_returned(tmp_path, "whole", action))


def test_a_report_about_another_mail_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="which mail came back"):
        read(_returned(tmp_path, "none"))


@pytest.mark.parametrize("content", [LETTER, b"", b"\xff\xfe\x00", "通知".encode("utf-16")])
def test_what_is_no_such_report_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "other.eml"
    file.write_bytes(content)
    with pytest.raises(Refused, match="no report of a mail that came back"):
        read(file)
