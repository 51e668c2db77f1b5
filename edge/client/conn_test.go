package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"herd/edge/client/clienttest"
)

const kiwi = "IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503"

func dialFake(t *testing.T, f *clienttest.Fake) *Conn {
	t.Helper()
	c, err := Dial(t.Context(), f.Listen(t, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestDoKnowsWhereAnAnswerEnds(t *testing.T) {
	c := dialFake(t, clienttest.New("Clark"))
	for _, test := range []struct{ name, line, prefix, suffix string }{
		{"C4", "HELLO world", "? HELLO world", "world\n"},
		{"C13", "WHATSAT kiwi.cs.ucla.edu 10 5", "? WHATSAT", " 10 5\n"},
		{"C9", kiwi + "\n", "AT Clark +", kiwi[len("IAMAT"):] + "\n"},
		{"C14", "WHATSAT kiwi.cs.ucla.edu 10 5", "AT Clark +", "ZERO_RESULTS\"}\n\n"},
		{"C2 white space before", "\tWHATSAT kiwi.cs.ucla.edu 10 5", "AT Clark +", "ZERO_RESULTS\"}\n\n"},
		{"C4 after a long answer", "again", "? again", "again\n"},
	} {
		answer, err := c.Do(t.Context(), []byte(test.line))
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if got := string(answer); !strings.HasPrefix(got, test.prefix) || !strings.HasSuffix(got, test.suffix) {
			t.Errorf("%s: %q is answered %q, want %q … %q", test.name, test.line, got, test.prefix, test.suffix)
		}
	}
}

func TestAnswersComeInTheOrderOfPipelinedCommands(t *testing.T) { // C1
	c := dialFake(t, clienttest.New("Clark"))
	lines := []string{kiwi, "WHATSAT kiwi.cs.ucla.edu 1 1", "nonsense", "WHATSAT nobody 1 1", kiwi}
	for _, line := range lines {
		if err := c.Send([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Do(t.Context(), []byte("x")); err == nil {
		t.Error("Do took the place of the commands before it")
	}
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"AT Clark", "AT Clark", "? nonsense", "? WHATSAT nobody", "AT Clark"} {
		got, err := c.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(got), want) {
			t.Errorf("answer %d to %q is %q, want %q …", i, lines[i], got, want)
		}
	}
	if _, err := c.Receive(t.Context()); !errors.Is(err, ErrNotOwed) {
		t.Errorf("an answer to nothing: %v", err)
	}
}

func TestSendRefusesWhatIsNotOneCommand(t *testing.T) {
	c := dialFake(t, clienttest.New("Clark"))
	for line, want := range map[string]error{"a\nb": ErrManyLines, "a\n\n": ErrManyLines, "": ErrBlank, " \t\r\n": ErrBlank} {
		if err := c.Send([]byte(line)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", line, err, want)
		}
	}
}

func TestDoEndsWithItsContext(t *testing.T) {
	silence := make(chan struct{})
	defer close(silence)
	f := clienttest.New("Clark")
	f.Twist = func(_, answer []byte) []byte { <-silence; return answer }
	c := dialFake(t, f)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Do(ctx, []byte(kiwi)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the context's end", err)
	}
}

func TestAContextThatEndsAfterTheAnswerHarmsNothing(t *testing.T) {
	c := dialFake(t, clienttest.New("Clark"))
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := c.Do(ctx, []byte(kiwi)); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
}

func TestAClosedConnectionIsAnError(t *testing.T) {
	f := clienttest.New("Clark")
	f.Twist = func(_, _ []byte) []byte { return nil }
	c := dialFake(t, f)
	if _, err := c.Do(t.Context(), []byte(kiwi)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v, want unexpected EOF", err)
	}
}

func TestDialNamesTheAddress(t *testing.T) {
	const addr = "127.0.0.1:1" // nobody listens there any more
	if _, err := Dial(t.Context(), addr, nil); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("%v does not name %s", err, addr)
	}
}

func TestTLS(t *testing.T) {
	certified := httptest.NewTLSServer(nil) // for its certificate
	defer certified.Close()
	addr := clienttest.New("Clark").Listen(t, func(ln net.Listener) net.Listener {
		return tls.NewListener(ln, &tls.Config{Certificates: certified.TLS.Certificates})
	})
	if _, err := Dial(t.Context(), addr, &tls.Config{}); err == nil {
		t.Error("an unknown certificate was taken")
	}
	secure := certified.Client().Transport.(*http.Transport).TLSClientConfig
	c, err := Dial(t.Context(), addr, secure)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answer, err := c.Do(t.Context(), []byte(kiwi))
	if err != nil || !bytes.HasPrefix(answer, []byte("AT Clark ")) {
		t.Errorf("answer %q, %v", answer, err)
	}
}
