package journal

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestKeysAreLegalReadableAndOneToOne(t *testing.T) {
	for _, c := range []struct{ client, want string }{
		{"kiwi.cs.ucla.edu", "kiwi.cs.ucla.edu"},
		{"a/b-c_d", "a/b-c_d"},
		{"a*b>", "a=2Ab=3E"},
		{"é", "=C3=A9"},
		{"=", "=3D"},
		{".a..b.", "=2Ea.=2Eb=2E"},
		{"\x00", "=00"},
	} {
		if got := string(AppendKey(nil, []byte(c.client))); got != c.want {
			t.Errorf("D1 key of %q is %q, want %q", c.client, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 1, 40), rapid.SliceOfN(rapid.SampledFrom([]byte(".=a*h")), 1, 400))
		a, b := id.Draw(t, "a"), id.Draw(t, "b")
		ka, kb := AppendKey(nil, a), AppendKey(nil, b)
		if back, ok := clientOf(string(ka)); ok != !isHash(string(ka)) || ok && !bytes.Equal(back, a) {
			t.Fatalf("D1 %q is said to be the key of %q (%v), not of %q", ka, back, ok, a)
		}
		if bytes.Equal(a, b) != bytes.Equal(ka, kb) {
			t.Fatalf("D1 %q and %q have the keys %q and %q", a, b, ka, kb)
		}
		if len(ka) > keyMax+1 || ka[0] == '.' || ka[len(ka)-1] == '.' || bytes.Contains(ka, []byte("..")) {
			t.Fatalf("D1 %q is no legal key", ka)
		}
		for _, c := range ka {
			if !strings.ContainsRune("-/_=.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", rune(c)) {
				t.Fatalf("D1 %q is no legal key", ka)
			}
		}
	})
}

func TestWhatIsNoKeyTellsNoClient(t *testing.T) {
	for _, key := range []string{"", "=", "=4", "=owner", "=h.ABCDEFG", "=41", "a=2", "a..b", ".a", "=zz", "=2a", "a*b"} {
		if client, ok := clientOf(key); ok {
			t.Errorf("D1 %q is said to be the key of %q", key, client)
		}
	}
}
