package devices

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
)

const (
	freeBody  = 4 << 10   // bytes of a body that are read at once
	smallBody = 256 << 10 // beyond this a body is a large one (V4)
	maxBody   = 2 << 20   // packed or not, and unpacked (V4)

	// All bodies together have 64 MiB (V4), but for the first 4 KiB of each, which a connection has
	// anyway. Whoever waits for a place among the large holds one among the small, and nobody waits
	// the other way round.
	smallBodies = 32 << 20 / smallBody
	largeBodies = 32 << 20 / maxBody
	perAddress  = 4 // one address may have one in so many of the places
)

var (
	errLarge    = errors.New("larger than 2 MiB")
	errEncoding = errors.New("unknown Content-Encoding")
)

// bodies reads what requests bring.
type bodies struct {
	small, large turns
}

func newBodies() *bodies {
	return &bodies{
		small: turns{places: smallBodies, each: smallBodies / perAddress},
		large: turns{places: largeBodies, each: largeBodies / perAddress},
	}
}

// read returns the body of a request, unpacked. The body is held until done is called, which is
// to be called whatever the error; that is errLarge (or http.MaxBytesError, of a packed body),
// errEncoding, or why it did not come.
func (b *bodies) read(ctx context.Context, r *http.Request, from netip.Addr) (body []byte, done func(), err error) {
	var held []*turns
	done = func() {
		for _, t := range held {
			t.leave(from)
		}
	}
	enter := func(t *turns) error {
		if err := t.enter(ctx, from); err != nil {
			return fmt.Errorf("wait for a turn: %w", err)
		}
		held = append(held, t)
		return nil
	}
	if r.ContentLength > maxBody { // packed or not
		return nil, done, errLarge
	}
	var src io.Reader = r.Body
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		if err := enter(&b.small); err != nil { // it takes room itself
			return nil, done, err
		}
		packed, err := gzip.NewReader(http.MaxBytesReader(nil, r.Body, maxBody))
		if errors.Is(err, io.EOF) { // nothing at all
			return nil, done, nil
		}
		if err != nil {
			return nil, done, fmt.Errorf("unpack: %w", err)
		}
		src = packed
	default:
		return nil, done, errEncoding
	}
	for _, step := range []struct {
		most int
		of   *turns
	}{{freeBody, nil}, {smallBody, &b.small}, {maxBody, &b.large}} {
		if step.of != nil && len(held) == 0 || step.of == &b.large {
			if err := enter(step.of); err != nil {
				return nil, done, err
			}
		}
		var end bool
		if body, end, err = fill(body, src, step.most, int(r.ContentLength)); err != nil || end {
			return body, done, err
		}
	}
	return nil, done, errLarge
}

// fill reads src to most bytes in all, and one more to see whether there are more, which it keeps.
// end says that there are none.
func fill(body []byte, src io.Reader, most, expected int) (_ []byte, end bool, err error) {
	size := most + 1
	if expected >= 0 && expected < most {
		size = max(expected+1, len(body)+1)
	}
	if cap(body) < size {
		body = append(make([]byte, 0, size), body...)
	}
	for len(body) <= most {
		if len(body) == cap(body) { // it is longer than was said, as unpacked bodies are
			body = append(body, 0)[:len(body)]
		}
		n, err := src.Read(body[len(body):min(cap(body), most+1)])
		body = body[:len(body)+n]
		switch {
		case errors.Is(err, io.EOF):
			return body, len(body) <= most, nil
		case err != nil:
			return body, false, err
		}
	}
	return body, false, nil
}
