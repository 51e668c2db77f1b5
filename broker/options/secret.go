package options

import "log/slog"

// Secret is a string that no log, no error and no dump of the struct around it shows: every
// way of printing it prints a placeholder. The string is behind a pointer, because reflection
// can read a plain string despite the methods. The zero value is the empty secret. Copies
// share the string, which never changes.
type Secret struct{ text *string }

const concealed = "[secret]"

// NewSecret keeps text as a secret.
func NewSecret(text string) Secret { return Secret{&text} }

// UnmarshalText stores a copy of text as the secret. Any text is valid.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}

// Reveal returns the secret itself, for the place that needs it.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String returns a placeholder: empty for the empty secret, otherwise always the same.
func (s Secret) String() string {
	if s.Reveal() == "" {
		return ""
	}
	return concealed
}

// GoString keeps %#v from showing the secret.
func (s Secret) GoString() string { return "Secret(" + s.String() + ")" }

// LogValue keeps slog from showing the secret.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON keeps JSON, and so slog's JSON of a struct around it, from
// showing the secret.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }
