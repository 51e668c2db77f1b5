package broker

import (
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

func TestAQuestionThatGetsNoTurnIsToldSo(t *testing.T) {
	server, err := StartEmbedded(EmbeddedConfig{Name: "test", Listen: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	c, err := server.Dial("Clark", Events{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	entered, leave := make(chan bool, maxQuestions), make(chan struct{})
	s := c.newService(ServiceConfig{Prefix: "herd", Edge: "Clark", WHATSAT: func(payload []byte, _ time.Time) Reply {
		if string(payload) == "slow" {
			entered <- true
			<-leave
		}
		return Reply{Answer: payload}
	}})
	s.turn = 10 * time.Millisecond
	if err := s.offer(); err != nil {
		t.Fatal(err)
	}
	defer s.Stop(t.Context())
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	ask := func(payload, want, code string) {
		t.Helper()
		m, err := nc.Request("herd.edge.Clark.whatsat", []byte(payload), 20*time.Second)
		if err != nil || string(m.Data) != want || m.Header.Get(micro.ErrorCodeHeader) != code {
			t.Errorf("asked %q: %v, %v; want %q, %q", payload, m, err, want, code)
		}
	}
	slow, err := nc.SubscribeSync("slow")
	if err != nil {
		t.Fatal(err)
	}
	for range maxQuestions {
		if err := nc.PublishRequest("herd.edge.Clark.whatsat", "slow", []byte("slow")); err != nil {
			t.Fatal(err)
		}
	}
	for range maxQuestions { // take every turn
		<-entered
	}
	ask("quick", "", "503")
	close(leave)
	for range maxQuestions {
		if _, err := slow.NextMsg(20 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	ask("quick", "quick", "")
}
