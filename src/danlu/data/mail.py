"""Mail: a message in RFC 5322 form, its subject and the text of its body."""

from collections.abc import Iterator
from email import errors, header, message_from_bytes
from email.message import Message
from typing import Any

from danlu.data.content import Content, FoundRow, said_decoder
from danlu.data.encodings import Decoder
from danlu.data.faults import Fault

__all__ = ["read_mail"]


def read_mail(content: Content) -> Iterator[FoundRow]:
    """Subject and body as `text`, the subject also as a column; the plain part goes before the html one."""
    raw = content.whole()
    try:
        message = message_from_bytes(raw)
        subject = _subject(message)
        part = _body(message)
        body = part.get_payload(decode=True) if part else b""
        said = (part.get_content_charset() if part else None) or ""
    except (errors.MessageError, ValueError, LookupError, TypeError, AttributeError, RecursionError, AssertionError) as error:  # fmt: skip
        raise Fault("bad_mail", f"{type(error).__name__}: {error}", raw) from None
    decoder = said_decoder(said) or content.decoder
    text = decoder.feed(body, final=True) if isinstance(body, bytes) else ""
    if decoder.lost:  # its word was not true
        decoder = Decoder("auto")
        text = decoder.feed(body, final=True) if isinstance(body, bytes) else ""
    content.decoder = decoder
    if decoder.lost:
        content.note(0, decoder.lost, decoder.first, raw)
    row: dict[str, Any] = {"text": f"{subject}\n\n{text}" if subject else text, "subject": subject}
    if part is not None and part.get_content_type() == "text/html":
        row["html"] = True
    if row["text"].strip():
        yield 0, row, raw
    elif raw.strip():
        raise Fault("bad_mail", "no text", raw)


def _subject(message: Message) -> str:
    pieces = []
    for piece, charset in header.decode_header(str(message.get("Subject", ""))):
        data = piece if isinstance(piece, bytes) else piece.encode("utf-8", "surrogateescape")
        pieces.append((said_decoder(charset or "") or Decoder("auto")).feed(data, final=True))
    return " ".join("".join(pieces).split())


def _body(message: Message) -> Message | None:
    """The first plain text that is no attachment, else the first html."""
    texts = [
        part
        for part in message.walk()
        if part.get_content_maintype() == "text" and part.get_content_disposition() != "attachment"
    ]
    return next((part for part in texts if part.get_content_type() != "text/html"), texts[0] if texts else None)
