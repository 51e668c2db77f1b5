package options_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/caarlos0/env/v10"

	"herd/broker/options"
)

func TestGoodOptions(t *testing.T) {
	for name, o := range map[string]options.Broker{
		"nothing":                      {},
		"a list of servers":            {URL: "nats://a:4222, tls://b ,ws://c:80,wss://d,e:4222,f,[::1]:4222"},
		"user info":                    {URL: "nats://me:secret@a"},
		"user and password":            {User: "Clark", Password: options.NewSecret("secret")},
		"files, which nobody looks at": {Creds: "/nowhere", CA: "/nowhere", Cert: "/nowhere", Key: "/nowhere"},
	} {
		if err := o.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryWrongOptionIsNamed(t *testing.T) {
	for _, test := range []struct {
		name string
		o    options.Broker
		want []string // the beginning of each line
	}{
		{"no server", options.Broker{URL: " , "}, []string{"NATS_URL: no server"}},
		{"no URL", options.Broker{URL: "nats://a b"}, []string{"NATS_URL: not a URL"}},
		{"no URL with a secret", options.Broker{URL: "nats://me:sesame%zz@a"}, []string{"NATS_URL: not a URL"}},
		{"no port", options.Broker{URL: "nats://me:sesame@a:port"}, []string{"NATS_URL: not a URL"}},
		{"port too high", options.Broker{URL: "nats://me:sesame@a:65536"}, []string{"NATS_URL: port 65536"}},
		{"no host", options.Broker{URL: "nats://:4222"}, []string{"NATS_URL: no host"}},
		{"scheme", options.Broker{URL: "http://me:sesame@a"}, []string{`NATS_URL: unknown scheme "http"`}},
		{"two logins", options.Broker{User: "Clark", Token: options.NewSecret("sesame")}, []string{"NATS_USER, NATS_TOKEN: more than one"}},
		{"password alone", options.Broker{Password: options.NewSecret("sesame")}, []string{"NATS_PASSWORD: a password needs NATS_USER"}},
		{"certificate without key", options.Broker{Cert: "/nowhere"}, []string{"NATS_CERT: a certificate needs NATS_KEY"}},
		{"key without certificate", options.Broker{Key: "/nowhere"}, []string{"NATS_KEY: a key needs NATS_CERT"}},
		{"all at once", options.Broker{URL: "nats://a,ftp://b,gopher://c", Creds: "/nowhere", NKey: "/nowhere", Key: "/nowhere"}, []string{
			`NATS_URL: unknown scheme "ftp"`, `NATS_URL: unknown scheme "gopher"`, "NATS_CREDS, NATS_NKEY: more than one", "NATS_KEY: a key needs NATS_CERT"}},
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
		})
	}
}

func TestOptionsAreReadFromTheNatsToolsVariables(t *testing.T) {
	var o options.Broker
	if err := env.ParseWithOptions(&o, env.Options{Environment: map[string]string{}}); err != nil {
		t.Fatal(err)
	}
	if o != (options.Broker{URL: options.DefaultURL}) {
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
	o.Password, o.Token = options.Secret{}, options.Secret{}
	if o != (options.Broker{URL: "u", User: "us", Creds: "c", NKey: "n", CA: "ca", Cert: "ce", Key: "k"}) {
		t.Errorf("got %+v", o)
	}
}

func TestSecretsArePrintedNowhere(t *testing.T) {
	o := options.Broker{Password: options.NewSecret("sesame"), Token: options.NewSecret("sesame")}
	log := &strings.Builder{}
	for _, l := range []*slog.Logger{slog.New(slog.NewTextHandler(log, nil)), slog.New(slog.NewJSONHandler(log, nil))} {
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
		"":                                     options.DefaultURL,
		"nats://me:sesame@a:1, b:2":            "nats://a:1,nats://b:2",
		"sesame@a":                             "nats://a",
		"nats://me:ses%zzame@a":                "(not a URL)",
		"tls://a.example,wss://me:sesame@b:80": "tls://a.example,wss://b:80",
	} {
		if got := (options.Broker{URL: url}).Server(); got != want {
			t.Errorf("%q is shown as %q, want %q", url, got, want)
		}
	}
}
