package certs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"herd/broker/certs/certstest"
)

// files writes a valid set of files and returns their names.
func files(t *testing.T) (f Files, ca *certstest.Authority) {
	t.Helper()
	dir := t.TempDir()
	ca = certstest.New(t, "authority")
	f.Cert, f.Key = ca.Server().Files(dir, "server")
	f.CA = filepath.Join(dir, "ca.pem")
	certstest.Write(t, f.CA, ca.PEM)
	return f, ca
}

func TestEachWrongFileIsNamed(t *testing.T) {
	good, ca := files(t)
	if held, err := Read(good); err != nil || held.Pair == nil || held.Pair.Leaf == nil || held.CA == nil {
		t.Fatalf("good files: %+v, %v", held, err)
	}
	if held, err := Read(Files{}); err != nil || held.Pair != nil || held.CA != nil {
		t.Fatalf("no files: %+v, %v", held, err)
	}
	foreign := ca.Server()
	cert, err := os.ReadFile(good.Cert)
	if err != nil {
		t.Fatal(err)
	}
	for title, test := range map[string]struct {
		change func(f *Files) (wrong *string)
		text   []byte // nil: the file does not exist
		says   string
	}{
		"no certificate file":          {func(f *Files) *string { return &f.Cert }, nil, "no such file"},
		"no key file":                  {func(f *Files) *string { return &f.Key }, nil, "no such file"},
		"no authority file":            {func(f *Files) *string { return &f.CA }, nil, "no such file"},
		"an empty certificate":         {func(f *Files) *string { return &f.Cert }, []byte{}, "no certificate"},
		"a key for a certificate":      {func(f *Files) *string { return &f.Cert }, foreign.Key, "no certificate"},
		"half a certificate":           {func(f *Files) *string { return &f.Cert }, cert[:len(cert)/2], "truncated"},
		"a chain that is cut off":      {func(f *Files) *string { return &f.Cert }, append(bytes.Clone(cert), ca.PEM[:100]...), "truncated"},
		"a damaged certificate":        {func(f *Files) *string { return &f.Cert }, bytes.Replace(cert, []byte("MII"), []byte("MIA"), 1), ""},
		"an empty key":                 {func(f *Files) *string { return &f.Key }, []byte{}, "PEM"},
		"half a key":                   {func(f *Files) *string { return &f.Key }, foreign.Key[:60], "PEM"},
		"another certificate's key":    {func(f *Files) *string { return &f.Key }, foreign.Key, "does not match"},
		"authorities that are cut off": {func(f *Files) *string { return &f.CA }, append(bytes.Clone(ca.PEM), ca.PEM[:200]...), "truncated"},
	} {
		t.Run(title, func(t *testing.T) {
			f := good
			wrong := test.change(&f)
			*wrong = filepath.Join(t.TempDir(), "file")
			if test.text != nil {
				certstest.Write(t, *wrong, test.text)
			}
			_, err := Read(f)
			file, ok := errors.AsType[*FileError](err)
			if !ok || file.File != *wrong || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %s: …%s…", err, *wrong, test.says)
			}
			if ok && strings.Contains(err.Error(), "BEGIN") {
				t.Errorf("the error shows what the file holds: %v", err)
			}
		})
	}
	_, err = Read(Files{Cert: "/nowhere/a", Key: "/nowhere/b", CA: "/nowhere/c"})
	for _, name := range []string{"/nowhere/a", "/nowhere/b", "/nowhere/c"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named: %v", name, err)
		}
	}
}

func TestACertificateThatIsNotGoodNow(t *testing.T) {
	now := time.Now()
	cert := &x509.Certificate{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	for after, want := range map[time.Duration]string{0: "", 2 * time.Hour: "expired at", -2 * time.Hour: "is not valid before"} {
		if got := Expiry(cert, now.Add(after)); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("after %v: %q, want %q", after, got, want)
		}
	}
}

// kept returns a Keeper and its log.
func kept(t *testing.T, f Files) (*Keeper, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	k, err := Keep(f, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return k, log
}

func TestRenewedFilesAreHeldWithinASecond(t *testing.T) {
	f, ca := files(t)
	synctest.Test(t, func(t *testing.T) { // only for the clock: reading files does not block
		k, log := kept(t, f)
		old := k.Now()
		renewed := ca.Server()
		renewed.Files(filepath.Dir(f.Cert), "server")
		if k.Now() != old {
			t.Error("looked at the files twice in a second")
		}
		time.Sleep(lookEvery)
		if got := k.Now().Pair.Leaf.SerialNumber.Int64(); got != renewed.Serial() {
			t.Errorf("serial %d is held, want the renewed %d", got, renewed.Serial())
		}
		if n := strings.Count(log.String(), "certificate files renewed"); n != 1 {
			t.Errorf("logged %d times: %s", n, log)
		}
		held := k.Now()
		for range 3 {
			time.Sleep(lookEvery)
			if k.Now() != held {
				t.Error("files that stayed the same were taken for new")
			}
		}
	})
}

func TestFilesOfNoUseChangeNothingAndAreToldOnce(t *testing.T) {
	f, ca := files(t)
	k, log := kept(t, f)
	old := k.Now()
	renewed := ca.Server()
	certstest.Write(t, f.Cert, renewed.Cert) // the key is not written yet
	for range 3 {
		k.Look()
	}
	if k.Now() != old {
		t.Error("half of a renewal was taken")
	}
	if n := strings.Count(log.String(), "of no use"); n != 1 || !strings.Contains(log.String(), f.Key) {
		t.Errorf("told %d times: %s", n, log)
	}
	if err := os.Remove(f.CA); err != nil { // another problem
		t.Fatal(err)
	}
	k.Look()
	k.Look()
	if n := strings.Count(log.String(), "of no use"); n != 2 || k.Now() != old {
		t.Errorf("told %d times: %s", n, log)
	}
	certstest.Write(t, f.CA, ca.PEM)
	certstest.Write(t, f.Key, renewed.Key)
	k.Look()
	if got := k.Now().Pair.Leaf.SerialNumber.Int64(); got != renewed.Serial() || !strings.Contains(log.String(), "valid again") {
		t.Errorf("serial %d is held, want %d; %s", got, renewed.Serial(), log)
	}
	certstest.Write(t, f.Key, ca.Server().Key) // the next problem is logged again
	k.Look()
	if n := strings.Count(log.String(), "of no use"); n != 3 {
		t.Errorf("told %d times: %s", n, log)
	}
}

func TestAnExpiredRenewalIsTakenWithAWarning(t *testing.T) {
	f, ca := files(t)
	k, log := kept(t, f)
	expired := ca.Sign(&x509.Certificate{NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	expired.Files(filepath.Dir(f.Cert), "server")
	k.Look()
	if got := k.Now().Pair.Leaf.SerialNumber.Int64(); got != expired.Serial() || !strings.Contains(log.String(), "expired at") {
		t.Errorf("serial %d, %s", got, log)
	}
}
