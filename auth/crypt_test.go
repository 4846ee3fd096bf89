package auth

import (
	"os"
	"strings"
	"testing"
)

// refusedVectors are the rows that the real program accepts and Roost does not, by the
// start of the stored password. Each has a reason in crypt.go.
var refusedVectors = map[string]string{
	"{OTP}":        "one-time passwords",
	"{DES-CRYPT}":  "DES crypt",
	"$gy$":         "gost-yescrypt",
	"_J9..":        "BSDi's DES crypt",
	"abA5hjwYqm1.": "DES crypt",
	"abzp3RXJm5gN": "DES crypt",
}

// Every row of the vectors, made with Dovecot 2.3.19 and libxcrypt, is right or is
// refused with the reason that the list above has.
func TestVectors(t *testing.T) {
	b, err := os.ReadFile("testdata/passwd-vectors.tsv")
	if err != nil {
		t.Fatal(err)
	}
	rows, used := 0, map[string]bool{}
	for i, line := range strings.Split(string(b), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		f := append(strings.Split(line, "\t"), "")
		password, stored, want, user := f[1], f[2], f[3] == "ok", f[4]
		rows++
		refused := ""
		for prefix, reason := range refusedVectors {
			if strings.HasPrefix(stored, prefix) {
				refused, used[prefix] = reason, true
			}
		}
		h, err := ParseHash(stored)
		if refused != "" {
			if err == nil || !strings.Contains(err.Error(), refused) || !strings.Contains(err.Error(), "not supported") {
				t.Errorf("row %d: %s: error %v, want %q", i+1, stored, err, refused)
			}
			continue
		}
		if err != nil && want {
			t.Errorf("row %d: %s: %v", i+1, stored, err)
			continue
		}
		if err == nil && h.Matches(user, password) != want {
			t.Errorf("row %d: %s with %q: %v, want %v", i+1, stored, password, !want, want)
		}
	}
	if rows < 320 || len(used) != len(refusedVectors) {
		t.Errorf("%d rows, %d of %d refused schemes met", rows, len(used), len(refusedVectors))
	}
}

// What htpasswd and others write beside Dovecot's forms.
func TestHashForms(t *testing.T) {
	for stored, want := range map[string]bool{
		"$apr1$lZL6V/ci$sQw6g73nRuoOIj/gnD18Z.":                                        true, // openssl passwd -apr1 -salt lZL6V/ci myPassword
		"$1$lZL6V/ci$UquAiMYjMKtDoAHOwmJlO.":                                           false,
		"{SCRAM-SHA-1}4096,,Z/qyKAY2RVgK6hJb4JZxxuvjXMU=,eoH+Rk6r4OELlp1KTjMJOlR2ojc=": false,
	} {
		h, err := ParseHash(stored)
		if got := err == nil && h.Matches("ann", "myPassword"); got != want {
			t.Errorf("%s: %v (%v), want %v", stored, got, err, want)
		}
	}
}

// Hashes at the edge of their form are computed without a panic, and match nothing.
func TestOddHashes(t *testing.T) {
	for _, stored := range []string{
		"$6$$" + strings.Repeat("a", 86),
		"$6$rounds=1$$" + strings.Repeat("a", 86),
		"$6$rounds=1000$" + strings.Repeat("s", 200) + "$" + strings.Repeat("a", 86),
		"$1$$" + strings.Repeat("a", 22),
		"$apr1$$" + strings.Repeat("a", 22),
		"$5$$" + strings.Repeat("a", 43),
		"$y$j..$$" + strings.Repeat("a", 43),
		"$y$j9T$$" + strings.Repeat("a", 43),
		"$7$/..../..../....$" + strings.Repeat("a", 43),
		"$7$2..../..../....$" + strings.Repeat("a", 43),
		"$sha1$1$s$" + strings.Repeat("a", 28),
		"$md5$s$$" + strings.Repeat("a", 22),
		"$argon2id$v=19$m=1,t=1,p=255$c2FsdA$" + strings.Repeat("A", 8),
		"$argon2i$v=19$m=8,t=1,p=1$YQ$" + strings.Repeat("A", 8),
		"$2b$04$" + strings.Repeat("!", 53),
		"$2b$05$" + strings.Repeat("ä", 26) + "a",
		"{PLAIN-TRUNC}0-",
		"{PLAIN-TRUNC}-",
		"{DIGEST-MD5}", "{SSHA.HEX}", "{PBKDF2}$1$$1$", "{SHA.}x", "{}", "{", "$", "$$", "$$$", "$6", "$6$", "$y$", "$7$", "1", "6",
	} {
		h, err := ParseHash(stored)
		if err == nil && stored != "{PLAIN-TRUNC}0-" && (h.Matches("ann", "") || h.Matches("ann", "x") || h.Matches("ann", strings.Repeat("x", maxPassword))) {
			t.Errorf("%s matches", stored)
		}
	}
}

// A file that somebody else can write to must not stall the server or take its memory.
func TestHostileCosts(t *testing.T) {
	for _, stored := range []string{
		"$6$rounds=999999999$abcdefgh$" + strings.Repeat("a", 86),
		"$5$rounds=10000001$abcdefgh$" + strings.Repeat("a", 43),
		"$2b$17$abcdefghijklmnopqrstuuXn6hjQgs7nkD0yDAys3c.PnqXXzcia2",
		"$2b$31$abcdefghijklmnopqrstuuXn6hjQgs7nkD0yDAys3c.PnqXXzcia2",
		"{ARGON2ID}$argon2id$v=19$m=2097152,t=1,p=1$dhtnnaVIw5DKZRd6YJNM/A$2HxpxJgl9bT4+R56bgO/+jcglkTAP2tqb3q0knA8qjM",
		"{ARGON2ID}$argon2id$v=19$m=1048576,t=1000,p=1$dhtnnaVIw5DKZRd6YJNM/A$2HxpxJgl9bT4+R56bgO/+jcglkTAP2tqb3q0knA8qjM",
		"{ARGON2ID}$argon2id$v=19$m=64,t=4294967295,p=1$dhtnnaVIw5DKZRd6YJNM/A$2HxpxJgl9bT4+R56bgO/+jcglkTAP2tqb3q0knA8qjM",
		"{PBKDF2}$1$Z3F8ClIV4imSWjAa$2000000000$90cbc1e4f48669d7a71330c2e2b3698c4a755d76",
		"{SCRAM-SHA-1}2000000000,TdF7MFhA+WawDsklTmPB+Q==,Z/qyKAY2RVgK6hJb4JZxxuvjXMU=,eoH+Rk6r4OELlp1KTjMJOlR2ojc=",
		"$sha1$4000000000$abcdefgh$fwgNnoer0mWxl.4VdwxVJYZ8aV1a",
		"$md5,rounds=4000000000$GUBv0xjJ$$SjBWf.bM9Y5DMgcaAitnw/",
		"$y$jzz$abcdefghijkl$hAeS8a7PiNzNyxIxnxr3hQCWVDC0cr3DmDo.8f9YXkB",
		"$7$zzzzzzzzzzzabcdefghijkl$DrdM1XOTLGi6JkqQ5ttg66/1Gk0kfGVoOvjUScCdVZC",
		"$7$CU....z....abcdefghijkl$DrdM1XOTLGi6JkqQ5ttg66/1Gk0kfGVoOvjUScCdVZC"[:5] + "zzzz" + "zzzzzabc$DrdM1XOTLGi6JkqQ5ttg66/1Gk0kfGVoOvjUScCdVZC",
	} {
		if _, err := ParseHash(stored); err == nil {
			t.Errorf("%s: accepted", stored)
		} else if strings.Contains(err.Error(), "$") && strings.Contains(err.Error(), "abcdefgh") {
			t.Errorf("the error shows the hash: %v", err)
		}
	}
}

// What NewHash writes is read back, by the scheme's name and by its password only.
func TestNewHash(t *testing.T) {
	defer func(old argon2Params) { newArgon2 = old }(newArgon2)
	newArgon2 = argon2Params{memory: 64, passes: 1, threads: 1} // the forms are tested here, not the cost
	for _, scheme := range WriteSchemes {
		for _, bare := range []bool{false, true} {
			stored, err := NewHash(scheme, "päss:wörd", bare)
			if bare && (scheme == "argon2id" || scheme == "scram-sha-256") {
				if err == nil {
					t.Errorf("%s without its scheme: OpenSMTPD cannot read that", scheme)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if strings.ContainsAny(stored, ": \t") || bare != (stored[0] == '$') {
				t.Errorf("%s cannot stand in a file", stored)
			}
			h, err := ParseHash(stored)
			if err != nil || !h.Matches("ann", "päss:wörd") || h.Matches("ann", "pass:word") {
				t.Errorf("%s: not read back: %v", stored, err)
			}
		}
	}
	for _, bad := range []string{"", "a\x00b", strings.Repeat("x", maxPassword+1)} {
		if _, err := NewHash("argon2id", bad, false); err == nil {
			t.Errorf("%.20q: accepted", bad)
		}
	}
	if _, err := NewHash("bcrypt", strings.Repeat("x", 73), false); err == nil {
		t.Error("bcrypt: 73 bytes accepted, of which it compares 72")
	}
}

// Whatever a file holds, reading a hash ends without a panic, and errors never show it.
func FuzzParseHash(f *testing.F) {
	b, err := os.ReadFile("testdata/passwd-vectors.tsv")
	if err != nil {
		f.Fatal(err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if cols := strings.Split(line, "\t"); len(cols) > 3 {
			f.Add(cols[2])
		}
	}
	f.Fuzz(func(t *testing.T, stored string) {
		h, err := ParseHash(stored)
		if err != nil {
			if h.match != nil {
				t.Error("an error and a hash")
			}
			return
		}
		if !h.Locked && (h.Scheme == "" || h.class == "" && h.match == nil) {
			t.Errorf("%+v is half a hash", h)
		}
	})
}
