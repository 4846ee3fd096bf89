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

# The same client compressed, by zlib itself.
import zlib


class Deflated:
    """A socket and its file behind COMPRESS."""

    def __init__(self, sock, level):
        self.sock, self.buffer = sock, b""
        self.out, self.inflate = zlib.compressobj(level, zlib.DEFLATED, -15), zlib.decompressobj(-15)

    def sendall(self, data):
        self.sock.sendall(self.out.compress(data) + self.out.flush(zlib.Z_SYNC_FLUSH))

    def more(self):
        data = self.sock.recv(4096)
        assert data, "the server hung up"
        self.buffer += self.inflate.decompress(data)

    def read(self, size):
        while len(self.buffer) < size:
            self.more()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def readline(self, limit=-1):
        while b"\n" not in self.buffer:
            self.more()
        return self.read(self.buffer.index(b"\n") + 1)

    def shutdown(self, how):
        pass

    def close(self):
        self.sock.close()


class Compressed(imaplib.IMAP4_SSL):
    def compress(self, level):
        imaplib.Commands["COMPRESS"] = ("AUTH",)
        ok(self._simple_command("COMPRESS", "DEFLATE"))
        self.sock = self._file = self.file = Deflated(self.sock, level)
        self.read, self.readline = self.file.read, self.file.readline


for level in 0, 1, 9:
    m = Compressed(host, port, ssl_context=ctx)
    ok(m.login(user, password))
    m.compress(level)
    large = b"Subject: large\r\n\r\n" + b"".join(b"%d lines, each another\r\n" % (i * i) for i in range(20000))
    n = int(ok(m.select("INBOX"))[0])
    ok(m.append("INBOX", None, None, large))
    assert ok(m.fetch(str(n + 1), "(BODY.PEEK[])"))[0][1] == large
    m.logout()
print("imaplib: all right")
