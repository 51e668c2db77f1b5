package broker_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"herd/broker"
	"herd/broker/brokertest"
	"herd/broker/options"
)

func text(m *memory) *slog.Logger { return slog.New(slog.NewTextHandler(m, nil)) }

// file writes a file, and returns its name.
func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func userSeed(t *testing.T) (seed, public string) {
	t.Helper()
	kp, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	s, err := kp.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = kp.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return string(s), public
}

func TestGoodOptions(t *testing.T) {
	seed, _ := userSeed(t)
	creds := "-----BEGIN NATS USER JWT-----\neyJ0eXAi.eyJqdGki.c2ln\n------END NATS USER JWT------\n\n" +
		"-----BEGIN USER NKEY SEED-----\n" + seed + "\n------END USER NKEY SEED------\n"
	for name, o := range map[string]options.Broker{
		"nothing":           {},
		"a list of servers": {URL: "nats://a:4222, tls://b ,ws://c:80,wss://d,e:4222,f,[::1]:4222"},
		"user info":         {URL: "nats://me:secret@a"},
		"user":              {User: "Clark"},
		"user and password": {User: "Clark", Password: options.NewSecret("secret")},
		"token":             {Token: options.NewSecret("secret")},
		"nkey":              {NKey: file(t, seed)},
		"credentials":       {Creds: file(t, creds)},
	} {
		if err := errors.Join(o.Validate(), broker.CheckFiles(o)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatIsWrongWithOptionsAndTheirFilesIsToldAtOnce(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	garbage := file(t, "garbage")
	for _, test := range []struct {
		name string
		o    options.Broker
		want []string // the beginning of each line
	}{
		{"two logins", options.Broker{User: "Clark", Token: options.NewSecret("sesame")}, []string{"NATS_USER, NATS_TOKEN: more than one"}},
		{"no file", options.Broker{Creds: nowhere}, []string{"NATS_CREDS: "}},
		{"no file", options.Broker{NKey: nowhere}, []string{"NATS_NKEY: "}},
		{"no credentials", options.Broker{Creds: garbage}, []string{"NATS_CREDS: "}},
		{"no seed", options.Broker{NKey: garbage}, []string{"NATS_NKEY: "}},
		{"no certificate", options.Broker{Cert: garbage, Key: garbage}, []string{"NATS_CERT, NATS_KEY: "}},
		{"all at once", options.Broker{URL: "nats://a,ftp://b,gopher://c", Creds: nowhere, NKey: nowhere, CA: garbage, Cert: nowhere, Key: nowhere}, []string{
			`NATS_URL: unknown scheme "ftp"`, `NATS_URL: unknown scheme "gopher"`, "NATS_CREDS, NATS_NKEY: more than one",
			"NATS_CREDS: ", "NATS_NKEY: ", "NATS_CA: ", "NATS_CERT, NATS_KEY: "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := broker.Dial(test.o, "Clark", broker.Events{}, brokertest.Log(t))
			if err == nil {
				t.Fatal("dialled all the same")
			}
			lines := strings.Split(err.Error(), "\n")
			if !slices.EqualFunc(lines, test.want, strings.HasPrefix) {
				t.Errorf("got:\n%v\nwant:\n%s", err, strings.Join(test.want, "\n"))
			}
			if strings.Contains(err.Error(), "sesame") {
				t.Errorf("the secret is in it: %v", err)
			}
		})
	}
}
