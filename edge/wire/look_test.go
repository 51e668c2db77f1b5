package wire

import (
	"errors"
	"strings"
	"testing"
)

func TestQuestionsAboutABox(t *testing.T) {
	for text, want := range map[string]CELLS{
		"+1-2 +3+4":              {Point{1e7, -2e7}, Point{3e7, 4e7}, 200},
		" +1+179\t+1-179  0\n":   {Point{1e7, 179e7}, Point{1e7, -179e7}, 0},
		"-90-180 +90+180 500":    {Point{-90e7, -180e7}, Point{90e7, 180e7}, 500},
		"+0.5+0.5/ +0.5+0.5 007": {Point{5e6, 5e6}, Point{5e6, 5e6}, 7},
	} {
		if got, err := ParseCELLS([]byte(text)); err != nil || got != want {
			t.Errorf("%q: got %+v, %v", text, got, err)
		}
	}
	for text, rule := range map[string]string{
		"": "L2", "+1+1": "L2", "+1+1 +2+2 501": "L2", "+1+1 +2+2 -1": "L2", "+1+1 +2+2 1x": "L2", "+1+1 +2+2 1000": "L2",
		"+1+1 +2+2 3 4": "L2", "+2+1 +1+2": "L2", "+91+1 +91+2": "C7", "+1+1 x": "C7", "kiwi +1+1": "C7",
	} {
		_, err := ParseCELLS([]byte(text))
		if syntax, ok := errors.AsType[*SyntaxError](err); !ok || syntax.Rule != rule {
			t.Errorf("%q: %v, want a refusal by %s", text, err, rule)
		}
	}
}

func TestAClientAlone(t *testing.T) {
	for text, want := range map[string]string{"kiwi": "kiwi", " \tki\xffwi\r\n": "ki\xffwi"} {
		if got, err := ParseClient([]byte(text)); err != nil || string(got) != want {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", " ", "two words", strings.Repeat("x", 1025)} {
		if _, err := ParseClient([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
