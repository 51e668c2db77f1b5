package edge

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herd/broker/brokertest"
	"herd/edge/admin"
)

// configured starts a NATS server that runs by a file with this text.
func configured(t *testing.T, text string) *brokertest.Configured {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte("listen: 127.0.0.1:-1\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	return brokertest.StartConfigured(t, file)[0]
}

// readyz requests /readyz from the edge's admin port.
func (r *running) readyz() (code int, body string) {
	w := httptest.NewRecorder()
	admin.New(admin.Config{}, r.edge.Source()).Handler().ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/readyz", nil))
	return w.Code, w.Body.String()
}

func TestAnEdgeThatIsNotReadySaysWhy(t *testing.T) {
	check := func(r *running, want string) {
		t.Helper()
		wantCode := http.StatusOK
		if !strings.HasPrefix(want, r.edge.cfg.Edge+" ready") {
			wantCode = http.StatusServiceUnavailable
		}
		code, body := r.readyz()
		if code != wantCode || body != want {
			t.Errorf("/readyz: %d %q, want %d %q", code, body, wantCode, want)
		}
		_, why, _ := strings.Cut(strings.TrimPrefix(want, r.edge.cfg.Edge+" ready"), "not ready: ")
		why, _, _ = strings.Cut(why, "; broker ")
		if s := r.edge.Status(); s.Ready != (wantCode == http.StatusOK) || s.Why != why {
			t.Errorf("status: ready %v, why %q; want %q", s.Ready, s.Why, why)
		}
	}

	t.Run("H5 max_payload", func(t *testing.T) {
		server := configured(t, "max_payload: 1791\n")
		a := run(t, "A", server.URL(), "HERD_TOPOLOGY=A").ready()
		check(a, fmt.Sprintf("A not ready: the broker's max_payload is 1791 bytes, and a line may need %d; broker connected %s\n", leastPayload, server.URL()))
		if got := a.say("IAMAT kiwi +1+1 1"); !strings.HasPrefix(got, "AT A ") {
			t.Errorf("H8 its clients are answered %q", got)
		}
	})
	t.Run("D4 a journal that has to be, and cannot", func(t *testing.T) {
		server := brokertest.Start(t) // without JetStream
		a := run(t, "A", server.URL(), "HERD_TOPOLOGY=A", "HERD_JOURNAL=on")
		eventually(t, "the name to be its own", func() bool { return strings.HasSuffix(a.edge.Status().Why, "waits for the journal") })
		eventually(t, "the reason to be known", func() bool { return strings.Contains(a.edge.Status().Why, "no JetStream at the broker") })
		check(a, "A not ready: "+a.edge.Status().Why+"; broker connected "+server.URL()+"\n")
		if why := a.edge.Status().Why; !strings.HasPrefix(why, "the journal cannot be written: ") {
			t.Errorf("D4 why %q", why)
		}
	})
	t.Run("C19 stopping", func(t *testing.T) {
		server := brokertest.Start(t)
		a := run(t, "A", server.URL(), "HERD_TOPOLOGY=A").ready()
		check(a, "A ready; broker connected "+server.URL()+"\n")
		if err := a.end(); err != nil {
			t.Fatal(err)
		}
		check(a, "A not ready: stopping; broker away "+server.URL()+"\n")
	})
}
