from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danlu.data.faults import Fault
from danlu.data.mail import read_mail
from tests.data.test_content import content

BODY = "我们在这里看到的是一个很大的国家，也是一个有很多人的地方。\n"


def row_of(data: bytes) -> dict:
    ((number, row, _),) = read_mail(content(data))
    assert number == 0
    return row


@pytest.mark.parametrize("charset", ["utf-8", "gb18030", "gb2312", "big5"])
@pytest.mark.parametrize("transfer", ["base64", "quoted-printable"])
def test_subject_and_body_in_the_encodings_they_name(charset, transfer):
    body = BODY if charset != "big5" else "我們在這裡看到的是一個很大的國家。\n"
    message = EmailMessage()
    message["Subject"], message["From"] = "关于开会", "a@example.org"
    message.set_content(body, charset=charset, cte=transfer)
    assert row_of(message.as_bytes()) == {"text": f"关于开会\n\n{body}", "subject": "关于开会"}


def test_the_plain_part_goes_before_html_and_attachments_are_no_text():
    message = EmailMessage()
    message["Subject"] = "hello"
    message.set_content("plain")
    message.add_alternative("<p>page</p>", subtype="html")
    message.add_attachment("attached", filename="a.txt")
    assert row_of(message.as_bytes())["text"] == "hello\n\nplain\n"
    only = EmailMessage()
    only.set_content("<p>page</p>", subtype="html")
    assert row_of(only.as_bytes()) == {"text": "<p>page</p>\n", "subject": "", "html": True}


def test_a_charset_that_is_not_true_or_not_named_is_found():
    head = b"Subject: x\nContent-Type: text/plain; charset="
    for said in (b"utf-8", b"us-ascii", b"x-unknown", b""):
        assert row_of(head + said + b"\n\n" + BODY.encode("gb18030"))["text"].endswith(BODY)


@given(st.binary(max_size=200) | st.text(alphabet=st.sampled_from("Content-Type: multipart/mixed; boundary=a\n-="), max_size=300).map(str.encode))  # fmt: skip
def test_any_bytes_are_a_mail_or_a_fault(data):
    try:
        assert all(isinstance(row["text"], str) for _, row, _ in read_mail(content(data)))
    except Fault as fault:
        assert fault.reason == "bad_mail"


def test_parts_within_parts_without_end():
    parts = b"".join(b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n" % (n, n) for n in range(3000))
    with pytest.raises(Fault, match="bad_mail"):
        row_of(b"Subject: \n" + parts)
