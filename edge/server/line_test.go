package server

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"
)

func TestLines(t *testing.T) {
	const most = 128
	long := strings.Repeat("0123456789abcdef", 8) // 128 bytes
	over := long + "!"
	for _, test := range []struct{ name, in, want string }{
		{"C1 one", "a\n", "= a\n"},
		{"C1 many", "a\nb\r\nc\n", "= a\n= b\n= c\n"},
		{"C1 the end of the stream ends a line", "a\nb", "= a\n= b\n"},
		{"C1 nothing at all", "", ""},
		{"C3 blank lines are the session's", "\n \n", "= \n=  \n"},
		{"C4 a lone CR is no line end", "a\rb\n", "= a\rb\n"},
		{"C5 as long as may be", long + "\n", "= " + long + "\n"},
		{"C5 as long as may be, CRLF", long + "\r\n", "= " + long + "\n"},
		{"C5 as long as may be, unended", long, "= " + long + "\n"},
		{"C5 one too long", over + "\nb\n", "~ " + over[:64] + " " + over[113:] + "\n= b\n"},
		{"C5 one too long, CRLF", over + "\r\nb\n", "~ " + over[:64] + " " + over[113:] + "\n= b\n"},
		{"C5 one too long, unended", over, "~ " + over[:64] + " " + over[113:] + "\n"},
		{"C5 too long by a CR", long + "\rx\n", "~ " + over[:64] + " " + long[114:] + "\rx\n"},
		{"C5 too long by two CRs", long + "\r\r\n", "~ " + over[:64] + " " + long[113:] + "\r\n"},
		{"C5 too long by a CR at the end of the stream", long + "\r", "~ " + over[:64] + " " + long[113:] + "\r\n"},
		{"C5 blank", strings.Repeat(" ", most+1) + "\n", "~ " + strings.Repeat(" ", 64+1+16) + "\n"},
		{"C5 between others", "a\n" + over + "\n" + over + "\nb\n", "= a\n" + strings.Repeat("~ "+over[:64]+" "+over[113:]+"\n", 2) + "= b\n"},
		{"C5 a million bytes", "a\n" + strings.Repeat("y", 1<<20) + "HTTP/1.1\r\nb\n", "= a\n~ " + strings.Repeat("y", 64) + " yyyyyyyyHTTP/1.1\n= b\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, piece := range []int{1 << 30, 1000, 129, 128, 17, 16, 3, 1} {
				if piece < len(test.in)/10_000 {
					continue
				}
				if got := converse(most, pieces(test.in, func() int { return piece })); got != test.want {
					t.Errorf("in pieces of %d: got %.300q, want %.300q", piece, got, test.want)
				}
			}
		})
	}
}

// pieces cuts text into pieces whose sizes come from size.
func pieces(text string, size func() int) (all []string) {
	for len(text) > 0 {
		n := min(size(), len(text))
		all = append(all, text[:n])
		text = text[n:]
	}
	return all
}

// converse returns what a connection answers to input that comes in pieces, without a socket.
func converse(most int, input []string) string {
	s := New(Config{MaxLine: most}, newHerd())
	s.awaiting = awaitingUnder(context.Background())
	nc := &tape{in: input}
	c := s.admit(nc)
	s.conns.Go(c.begin)
	s.conns.Wait()
	return nc.out.String()
}

// tape is a net.Conn with prepared input.
type tape struct {
	in  []string
	out bytes.Buffer
}

func (c *tape) Read(p []byte) (int, error) {
	if len(c.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.in[0])
	if c.in[0] = c.in[0][n:]; c.in[0] == "" {
		c.in = c.in[1:]
	}
	return n, nil
}
func (c *tape) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *tape) Close() error                     { return nil }
func (c *tape) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *tape) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *tape) SetDeadline(time.Time) error      { return nil }
func (c *tape) SetReadDeadline(time.Time) error  { return nil }
func (c *tape) SetWriteDeadline(time.Time) error { return nil }

// plain returns what a connection answers, computed the simple way.
func plain(most int, input string) string {
	var out strings.Builder
	for input != "" {
		whole, rest, lf := strings.Cut(input, "\n")
		input = rest
		line := strings.TrimSuffix(whole, "\r")
		if kept := whole; len(line) > most || !lf && len(kept) > most {
			if lf {
				kept = line
			}
			out.WriteString("~ " + kept[:64] + " " + kept[len(kept)-16:] + "\n")
		} else {
			out.WriteString("= " + line + "\n") // the test's session removes a CR in any case
		}
	}
	return out.String()
}

func FuzzLines(f *testing.F) {
	f.Add("a\nb\r\nc", uint64(1), uint16(10))
	f.Add(strings.Repeat("x", 64)+"\r\n"+strings.Repeat("y", 65)+"\r\nz", uint64(2), uint16(70))
	f.Add(strings.Repeat("x", 64)+"\r"+strings.Repeat("\r\n", 65)+strings.Repeat(" ", 200), uint64(3), uint16(3))
	f.Fuzz(func(t *testing.T, input string, seed uint64, piece uint16) {
		const most = 64
		for _, verb := range []string{"wait", "big", "bye"} { // the test's session handles these otherwise
			if strings.Contains(input, verb) {
				t.Skip()
			}
		}
		random := rand.New(rand.NewPCG(seed, 0))
		got := converse(most, pieces(input, func() int { return 1 + random.IntN(int(piece)+1) }))
		if want := plain(most, input); got != want {
			t.Errorf("%q: got %q, want %q", input, got, want)
		}
	})
}
