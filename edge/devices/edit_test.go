package devices

import (
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// hashOf returns a hash that is quick to make and to check.
func hashOf(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func TestSetUserChangesOneLine(t *testing.T) {
	alice, bob := "alice:"+hashOf(t, "first-word"), "bob:"+hashOf(t, "second-word")
	for _, test := range []struct{ name, before, head, tail string }{
		{"an empty file", "", "", ""},
		{"at the end", bob + "\n", bob + "\n", ""},
		{"behind a line without its end", bob, bob + "\n", ""},
		{"in place", "# ours\n" + alice + "\n\n" + bob + "\n", "# ours\n", "\n" + bob + "\n"},
		{"in place, as Windows ends lines", alice + "\r\n" + bob + "\r\n", "", bob + "\r\n"},
		{"the last line without its end", bob + "\n" + alice, bob + "\n", ""},
		{"beside a name that begins like it", "alice2" + alice[5:] + "\n", "alice2" + alice[5:] + "\n", ""},
		{"beside a comment", "#alice:x\n", "#alice:x\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, added, err := SetUser([]byte(test.before), "alice", "third-word")
			if err != nil {
				t.Fatal(err)
			}
			if had := strings.Contains("\n"+test.before, "\nalice:"); added == had {
				t.Errorf("added: %v", added)
			}
			line, ok := strings.CutPrefix(string(got), test.head+"alice:")
			hash, ok2 := strings.CutSuffix(line, "\n"+test.tail)
			if !ok || !ok2 || !strings.HasPrefix(hash, "$2y$10$") || len(hash) != 60 {
				t.Fatalf("%q became %q", test.before, got)
			}
			r, err := parseUsers(got)
			if err != nil {
				t.Fatal(err)
			}
			if r.verify(credentials{[]byte("alice"), []byte("third-word")}) == nil {
				t.Error("the password is not taken")
			}
			if left, removed, err := RemoveUser(got, "alice"); err != nil || !removed || string(left) != test.head+test.tail {
				t.Errorf("without alice: %q, %v, %v", left, removed, err)
			}
		})
	}
}

func TestAFileWithAMistakeIsNotEdited(t *testing.T) {
	text := []byte("bob:" + hashOf(t, "second-word") + "\nno line of a file of users\n")
	if _, _, err := SetUser(text, "alice", "third-word"); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("SetUser: %v", err)
	}
	if _, _, err := RemoveUser(text, "bob"); err == nil {
		t.Error("RemoveUser takes it")
	}
	if _, err := Users(text); err == nil {
		t.Error("Users takes it")
	}
}

func TestNamesAndPasswordsOfNewUsers(t *testing.T) {
	for name, ok := range map[string]bool{"alice": true, "a.b-c_d@e+f%": true, strings.Repeat("a", 255): true,
		"": false, strings.Repeat("a", 256): false, "a/b": false, "a:b": false, "a b": false, "a\tb": false, "#a": false, "zoë": false, "a\x7f": false} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("name %q: %v", name, err)
		}
	}
	for password, ok := range map[string]bool{"12345678": true, strings.Repeat("~", 72): true,
		"1234567": false, strings.Repeat("~", 73): false, "1234 5678": false, "passwört": false} {
		err := CheckPassword(password)
		if (err == nil) != ok {
			t.Errorf("password %q: %v", password, err)
		}
		if err != nil && strings.Contains(err.Error(), password) {
			t.Errorf("the error shows %q", password)
		}
	}
}
