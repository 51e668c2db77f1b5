package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"herd/broker/options"
)

func TestASecretIsShownNowhere(t *testing.T) {
	const text = "AIzaSyVerySecret"
	var secret options.Secret
	if err := secret.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if got := secret.Reveal(); got != text {
		t.Fatalf("revealed %q", got)
	}
	type hidden struct{ inner Config } // fmt may not call methods of an unexported field
	cfg := Config{Edge: "Clark", GoogleKey: secret}
	for name, value := range map[string]any{
		"the secret": secret, "a pointer": &secret, "a list": []options.Secret{secret}, "a map": map[string]options.Secret{"key": secret},
		"the struct around it": cfg, "a pointer to that": &cfg, "an unexported field": hidden{cfg}, "an error": errors.New(fmt.Sprint(cfg)),
	} {
		t.Run(name, func(t *testing.T) {
			shown := make(map[string]string)
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
				shown[verb] = fmt.Sprintf(verb, value)
			}
			var logged bytes.Buffer
			slog.New(slog.NewTextHandler(&logged, nil)).Info("started", "value", value, slog.Any("again", value))
			shown["slog text"] = logged.String()
			logged.Reset()
			slog.New(slog.NewJSONHandler(&logged, nil)).With("value", value).Info("started", "value", value)
			shown["slog JSON"] = logged.String()
			asJSON, err := json.Marshal(value)
			if err != nil {
				t.Error(err)
			}
			shown["JSON"] = string(asJSON)
			for how, got := range shown {
				if strings.Contains(got, text) || strings.Contains(got, fmt.Sprintf("%x", text)) {
					t.Errorf("%s shows it: %s", how, got)
				}
			}
		})
	}
	if got, want := fmt.Sprintf("%v|%#v", secret, secret), "[secret]|Secret([secret])"; got != want {
		t.Errorf("printed %s, want %s", got, want)
	}
	if got := fmt.Sprintf("%v|%+v", options.Secret{}, struct{ Key options.Secret }{}); got != "|{Key:}" {
		t.Errorf("the empty secret is printed %s", got)
	}
}
