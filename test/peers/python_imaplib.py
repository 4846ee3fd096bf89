# Python's imaplib against the server: argv is host, port, user, password.
import imaplib, ssl, sys

host, port, user, password = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
ctx = ssl.create_default_context()
ctx.check_hostname = False
ctx.verify_mode = ssl.CERT_NONE


def ok(answer):
    typ, data = answer
    assert typ == "OK", (typ, data)
    return data


m = imaplib.IMAP4_SSL(host, port, ssl_context=ctx)
assert "IMAP4REV1" in m.capabilities, m.capabilities
try:
    m.login(user, "wrong")
    raise SystemExit("a wrong password was accepted")
except imaplib.IMAP4.error:
    pass
ok(m.login(user, password))
ok(m.create("Lists"))
ok(m.create('"Lists/with blank & amp"'.replace("&", "&-")))
names = ok(m.list())
assert any(b"Lists/with blank &- amp" in n for n in names), names
body = b"From: a@example.org\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n\r\nline one\r\nline two\r\n"
for i in range(3):
    ok(m.append("INBOX", "(\\Flagged)", imaplib.Time2Internaldate(1700000000 + i), body))
assert ok(m.select("INBOX")) == [b"3"]
assert ok(m.search(None, "FLAGGED")) == [b"1 2 3"]
assert ok(m.search("UTF-8", "SUBJECT", '"gr"')) == [b"1 2 3"]
m.literal = "grüße".encode()
assert ok(m.search("UTF-8", "SUBJECT")) == [b"1 2 3"]
m.create("Sorted")
for subject, references, hour in (("pear", "", 3), ("Re: apple", "", 2), ("apple", "", 1), ("core", "<2@x>", 4)):
    n = 5 - hour
    ok(m.append("Sorted", None, None, (f"Subject: {subject}\r\nMessage-ID: <{n}@x>\r\nReferences: {references}\r\n"
                                       f"Date: Mon, 1 Jan 2001 {hour:02}:00:00 +0000\r\n\r\nx\r\n").encode()))
assert ok(m.select("Sorted")) == [b"4"]
assert ok(m.sort("(SUBJECT DATE)", "UTF-8", "ALL")) == [b"3 2 4 1"]
assert ok(m.uid("SORT", "(REVERSE DATE)", "US-ASCII", "NOT", "SUBJECT", "re:")) == [b"4 1 3"]
assert ok(m.thread("REFERENCES", "UTF-8", "ALL")) == [b"(3 2)(1 4)"], m.thread("REFERENCES", "UTF-8", "ALL")
assert ok(m.thread("ORDEREDSUBJECT", "UTF-8", "ALL")) == [b"(3 2)(1)(4)"]
ok(m.select("INBOX"))
data = ok(m.fetch("2", "(RFC822 INTERNALDATE UID)"))
assert data[0][1] == body, data
assert b"14-Nov-2023" in data[0][0] + data[1], data
assert b'PREVIEW "line one line two"' in ok(m.fetch("2", "(PREVIEW)"))[0]
ok(m.store("1:2", "+FLAGS", "(\\Deleted $Forwarded)"))
ok(m.copy("3", "Lists"))
assert len(ok(m.expunge())) == 2
ok(m.uid("STORE", "3", "FLAGS", "(\\Seen)"))
assert b"\\Seen" in ok(m.fetch("1", "(FLAGS)"))[0]
assert b"MESSAGES 1" in ok(m.status("Lists", "(MESSAGES UIDNEXT)"))[0]
ok(m.subscribe("Lists"))
assert any(b"Lists" in n for n in ok(m.lsub()))
ok(m.noop())
ok(m.close())
ok(m.delete("Lists"))
m.logout()
print("imaplib: all right")
