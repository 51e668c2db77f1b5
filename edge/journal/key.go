package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
)

// keyMax is the most bytes of a key that spells out an id. The broker does not take the
// subjects of longer ones.
const keyMax = 255

// AppendKey appends a client's key in the bucket (D1) to dst. Letters, digits, `_`, `-`, `/`
// and single dots inside the id stand for themselves, so that ordinary ids can be typed. Any
// other byte is written as `=` and two hex digits. If the key would be longer than 255 bytes,
// it is `=h.` and a hash of the id instead, which no spelled-out key can equal. The value
// contains the id.
func AppendKey(dst, client []byte) []byte {
	const hex = "0123456789ABCDEF"
	start := len(dst)
	for i, b := range client {
		plain := b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || b == '-' || b == '/' ||
			b == '.' && i > 0 && i < len(client)-1 && client[i-1] != '.'
		if plain {
			dst = append(dst, b)
		} else {
			dst = append(dst, '=', hex[b>>4], hex[b&15])
		}
		if len(dst)-start > keyMax {
			sum := sha256.Sum256(client)
			dst = append(dst[:start], "=h."...)
			return base32.StdEncoding.WithPadding(base32.NoPadding).AppendEncode(dst, sum[:])
		}
	}
	return dst
}

// clientOf returns the client of a key. It returns false for a hash, from which the id cannot
// be told, and for a string that is no client's key.
func clientOf(key string) (client []byte, ok bool) {
	for i := 0; i < len(key); i++ {
		if key[i] != '=' {
			client = append(client, key[i])
			continue
		}
		if i+2 >= len(key) {
			return nil, false
		}
		client = append(client, unhex(key[i+1])<<4|unhex(key[i+2]))
		i += 2
	}
	return client, len(client) > 0 && belongs(key, client)
}

// unhex returns the value of an upper-case hex digit. For other bytes it has no meaning.
func unhex(c byte) byte {
	if c >= 'A' {
		return c - 'A' + 10
	}
	return c - '0'
}

// isHash reports whether a key is a hash, from which its client cannot be told.
func isHash(key string) bool { return len(key) > 3 && key[:3] == "=h." }

// belongs reports whether a key is the key of this client. Others may write to the bucket too,
// and what they write need not match.
func belongs(key string, client []byte) bool {
	var room [keyMax + 64]byte
	return bytes.Equal(AppendKey(room[:0], client), []byte(key))
}
