package devices

import (
	"bytes"
	"cmp"
	"slices"

	"herd/edge/wire"
)

// maxID is the longest id of a client in bytes (C6).
const maxID = 1024

// appendID appends the id of a device as a command has it (V6): white space is written as %20 and
// the like, and what a user reports is that user's own. user is empty for nobody in particular. It
// reports whether it can be an id.
func appendID(dst, user, sent []byte) ([]byte, bool) {
	if len(sent) == 0 {
		return dst, false
	}
	start := len(dst)
	if len(user) > 0 && !owns(user, sent) {
		dst = append(append(dst, user...), '/')
	}
	for _, b := range sent {
		if wire.IsSpace(b) {
			const digits = "0123456789ABCDEF"
			dst = append(dst, '%', digits[b>>4], digits[b&15])
		} else {
			dst = append(dst, b)
		}
	}
	return dst, len(dst)-start <= maxID
}

// owns says whether an id is a user's own: the name, or the name, a slash and more (V5). Bytes are
// compared as they are: no case, no path and no escape is made the same as another.
func owns(user, id []byte) bool {
	rest, ok := bytes.CutPrefix(id, user)
	return ok && (len(rest) == 0 || rest[0] == '/')
}

// maxCommands is how many bytes the commands of one request may be (V4). An id that is sent once
// stands in the command of each position, so they may be many times what was sent. Real positions
// take hundreds of bytes each, and cannot get there with ids of any length.
const maxCommands = 8 << 20

// idOf is the id that was sent for a position, as far as it can matter: one that is longer than an
// id may be is not copied for each position.
func (r *report) idOf(s *span) []byte {
	id := r.device
	if s.named {
		id = r.text[s.id:s.location]
	}
	return id[:min(len(id), maxID+1)]
}

// size returns how many bytes the commands take that a report asks for, where no id has white space.
func (r *report) size(user []byte) (bytes int) {
	for i := range r.positions {
		s := &r.positions[i]
		id := r.idOf(s)
		n := len(id)
		if len(user) > 0 && !owns(user, id) {
			n += len(user) + len("/")
		}
		if n <= maxID { // else it has no command
			bytes += n + len("  ") + int(s.end-s.location)
		}
	}
	return bytes
}

// iamats returns the commands that a report asks for, in the order of their times (V3), and how
// many of its positions can never be one because of their id. user is V6's.
func (r *report) iamats(user []byte) (all []wire.IAMAT, nameless, invalid int) {
	all = make([]wire.IAMAT, 0, len(r.positions))
	buffer := make([]byte, 0, r.size(user))
	for i := range r.positions {
		s := &r.positions[i]
		start := len(buffer)
		var ok bool
		if buffer, ok = appendID(buffer, user, r.idOf(s)); !ok {
			buffer = buffer[:start]
			nameless++
			continue
		}
		buffer = append(append(buffer, ' '), r.text[s.location:s.time]...)
		buffer = append(append(buffer, ' '), r.text[s.time:s.end]...)
		m, err := wire.ParseIAMAT(buffer[start:])
		if err != nil {
			buffer = buffer[:start]
			invalid++
			continue
		}
		all = append(all, m)
	}
	slices.SortStableFunc(all, func(a, b wire.IAMAT) int { return cmp.Compare(a.Stamp, b.Stamp) })
	return all, nameless, invalid
}
