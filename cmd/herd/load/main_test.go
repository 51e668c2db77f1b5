package load

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/goleak"

	"herd/edge/client/clienttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTLS(t *testing.T) {
	certified := httptest.NewTLSServer(nil) // for its certificate
	defer certified.Close()
	addr := clienttest.New("Clark").Listen(t, func(ln net.Listener) net.Listener {
		return tls.NewListener(ln, &tls.Config{Certificates: certified.TLS.Certificates})
	})
	secure := certified.Client().Transport.(*http.Transport).TLSClientConfig
	result, err := run(t, Config{Addrs: []string{addr}, TLS: secure, Requests: 500, Conns: 2, Pipeline: 8})
	if err != nil || result.Counts.Of(OK) != 500 {
		t.Errorf("over TLS: %+v, %v", result, err)
	}
}
