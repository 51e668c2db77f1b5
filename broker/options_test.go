package broker_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caarlos0/env/v10"
	"github.com/nats-io/nkeys"

	"herd/broker"
	"herd/broker/brokertest"
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
	for name, o := range map[string]broker.Options{
		"nothing":           {},
		"a list of servers": {URL: "nats://a:4222, tls://b ,ws://c:80,wss://d,e:4222,f,[::1]:4222"},
		"user info":         {URL: "nats://me:secret@a"},
		"user":              {User: "Clark"},
		"user and password": {User: "Clark", Password: broker.NewSecret("secret")},
		"token":             {Token: broker.NewSecret("secret")},
		"nkey":              {NKey: file(t, seed)},
		"credentials":       {Creds: file(t, creds)},
	} {
		if err := o.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryWrongOptionIsNamed(t *testing.T) {
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	garbage := file(t, "garbage")
	for _, test := range []struct {
		name string
		o    broker.Options
		want []string // each line begins so
	}{
		{"no server", broker.Options{URL: " , "}, []string{"NATS_URL: no server"}},
		{"no URL", broker.Options{URL: "nats://a b"}, []string{"NATS_URL: not a URL"}},
		{"no URL with a secret", broker.Options{URL: "nats://me:sesame%zz@a"}, []string{"NATS_URL: not a URL"}},
		{"no port", broker.Options{URL: "nats://me:sesame@a:port"}, []string{"NATS_URL: not a URL"}},
		{"port too high", broker.Options{URL: "nats://me:sesame@a:65536"}, []string{"NATS_URL: port 65536"}},
		{"no host", broker.Options{URL: "nats://:4222"}, []string{"NATS_URL: no host"}},
		{"scheme", broker.Options{URL: "http://me:sesame@a"}, []string{`NATS_URL: unknown scheme "http"`}},
		{"two logins", broker.Options{User: "Clark", Token: broker.NewSecret("sesame")}, []string{"NATS_USER, NATS_TOKEN: more than one"}},
		{"password alone", broker.Options{Password: broker.NewSecret("sesame")}, []string{"NATS_PASSWORD: a password needs NATS_USER"}},
		{"no file", broker.Options{Creds: nowhere}, []string{"NATS_CREDS: "}},
		{"no file", broker.Options{NKey: nowhere}, []string{"NATS_NKEY: "}},
		{"no credentials", broker.Options{Creds: garbage}, []string{"NATS_CREDS: "}},
		{"no seed", broker.Options{NKey: garbage}, []string{"NATS_NKEY: "}},
		{"certificate without key", broker.Options{Cert: garbage}, []string{"NATS_CERT: a certificate needs NATS_KEY"}},
		{"key without certificate", broker.Options{Key: garbage}, []string{"NATS_KEY: a key needs NATS_CERT"}},
		{"no certificate", broker.Options{Cert: garbage, Key: garbage}, []string{"NATS_CERT, NATS_KEY: "}},
		{"all at once", broker.Options{URL: "nats://a,ftp://b,gopher://c", Creds: nowhere, NKey: nowhere, CA: garbage, Cert: nowhere, Key: nowhere}, []string{
			`NATS_URL: unknown scheme "ftp"`, `NATS_URL: unknown scheme "gopher"`, "NATS_CREDS, NATS_NKEY: more than one",
			"NATS_CREDS: ", "NATS_NKEY: ", "NATS_CA: ", "NATS_CERT, NATS_KEY: "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.o.Validate()
			if err == nil {
				t.Fatal("accepted")
			}
			lines := strings.Split(err.Error(), "\n")
			if !slices.EqualFunc(lines, test.want, strings.HasPrefix) {
				t.Errorf("got:\n%v\nwant:\n%s", err, strings.Join(test.want, "\n"))
			}
			if strings.Contains(err.Error(), "sesame") {
				t.Errorf("the secret is in it: %v", err)
			}
			if _, err := broker.Dial(test.o, "Clark", broker.Events{}, brokertest.Log(t)); err == nil {
				t.Error("dialled all the same")
			}
		})
	}
}

func TestOptionsAreReadFromTheNatsToolsVariables(t *testing.T) {
	var o broker.Options
	if err := env.ParseWithOptions(&o, env.Options{Environment: map[string]string{}}); err != nil {
		t.Fatal(err)
	}
	if o != (broker.Options{URL: broker.DefaultURL}) {
		t.Errorf("of nothing: %+v", o)
	}
	if err := env.ParseWithOptions(&o, env.Options{Environment: map[string]string{
		"NATS_URL": "u", "NATS_USER": "us", "NATS_PASSWORD": "p w", "NATS_TOKEN": "t", "NATS_CREDS": "c",
		"NATS_NKEY": "n", "NATS_CA": "ca", "NATS_CERT": "ce", "NATS_KEY": "k",
	}}); err != nil {
		t.Fatal(err)
	}
	if o.Password.Reveal() != "p w" || o.Token.Reveal() != "t" {
		t.Errorf("secrets are %q, %q", o.Password.Reveal(), o.Token.Reveal())
	}
	o.Password, o.Token = broker.Secret{}, broker.Secret{}
	if o != (broker.Options{URL: "u", User: "us", Creds: "c", NKey: "n", CA: "ca", Cert: "ce", Key: "k"}) {
		t.Errorf("got %+v", o)
	}
}

func TestSecretsArePrintedNowhere(t *testing.T) {
	o := broker.Options{Password: broker.NewSecret("sesame"), Token: broker.NewSecret("sesame")}
	log := &memory{}
	for _, l := range []*slog.Logger{text(log), slog.New(slog.NewJSONHandler(log, nil))} {
		l.Info("x", "options", o, "secret", o.Password, "pointer", &o)
	}
	printed := log.String() + fmt.Sprintf("%v %+v %#v", o, o, o) + fmt.Sprint(o.Password, &o.Token)
	if b, err := json.Marshal(o); err == nil {
		printed += string(b)
	}
	if strings.Contains(printed, "sesame") {
		t.Error(printed)
	}
}

func TestServersAreShownWithoutUserInfo(t *testing.T) {
	for url, want := range map[string]string{
		"":                                     broker.DefaultURL,
		"nats://me:sesame@a:1, b:2":            "nats://a:1,nats://b:2",
		"sesame@a":                             "nats://a",
		"nats://me:ses%zzame@a":                "(not a URL)",
		"tls://a.example,wss://me:sesame@b:80": "tls://a.example,wss://b:80",
	} {
		if got := (broker.Options{URL: url}).Server(); got != want {
			t.Errorf("%q is shown as %q, want %q", url, got, want)
		}
	}
}
