package message

import (
	"reflect"
	"testing"
)

func TestFind(t *testing.T) {
	// 0 multipart: 1 text, 2 message: 3 multipart: 4 text, 5 html
	parts := scan(fixture(t, "rfc822-in-mp"), Limits{})
	for _, c := range []struct {
		path []uint32
		at   int // -1: none
	}{
		{nil, 0}, {[]uint32{1}, 1}, {[]uint32{2}, 2}, {[]uint32{2, 1}, 4}, {[]uint32{2, 2}, 5},
		{[]uint32{3}, -1}, {[]uint32{0}, -1}, {[]uint32{2, 3}, -1}, {[]uint32{2, 0}, -1}, {[]uint32{1, 2}, -1},
		{[]uint32{1, 1}, 1}, {[]uint32{1, 1, 1}, -1},
	} {
		at, ok := Find(parts, c.path)
		if !ok {
			at = -1
		}
		if at != c.at {
			t.Errorf("Find(%v) is %d, want %d", c.path, at, c.at)
		}
	}
	single := scan(fixture(t, "plain-lf"), Limits{})
	if at, ok := Find(single, []uint32{1}); !ok || at != 0 {
		t.Error("part 1 of a message without parts is not the message")
	}
	if _, ok := Find(single, []uint32{1, 1}); ok {
		t.Error("a message without parts has a part 1.1")
	}
}

func TestPartsKeepWhatSectionsNeed(t *testing.T) {
	for name := range fixtures(t) {
		parts := scan(fixture(t, name), Limits{})
		back, err := DecodeParts(AppendParts(nil, parts))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i := range parts {
			parts[i].Info = nil
		}
		if !reflect.DeepEqual(parts, back) {
			t.Errorf("%s: decoded parts differ", name)
		}
	}
}

func FuzzDecodeParts(f *testing.F) {
	for name := range fixtures(f) {
		if b := fixture(f, name); len(b) < 2000 {
			f.Add(AppendParts(nil, scan(b, Limits{})))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		parts, err := DecodeParts(b)
		if err != nil {
			return
		}
		for i, p := range parts {
			if p.Header.Off < parts[0].Header.Off || p.Body.End() > parts[0].Body.End() || (p.Kind == Leaf) != (p.First == 0) {
				t.Fatalf("part %d is %+v", i, p)
			}
		}
		again, err := DecodeParts(AppendParts(nil, parts))
		if err != nil || !reflect.DeepEqual(parts, again) {
			t.Fatalf("decoded, encoded and decoded it differs: %v", err)
		}
		Find(parts, []uint32{1, 2, 1})
	})
}
