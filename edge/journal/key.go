package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
)

// keyMax is the longest key that spells an id out: longer ones would make subjects
// that the broker does not take.
const keyMax = 255

// AppendKey appends the key of a client in the bucket (D1). Letters, digits, `_`,
// `-`, `/` and single dots within are as they are, so that ordinary ids can be typed;
// any other byte is `=` and two hex digits. An id whose key would be longer than 255
// bytes is `=h.` and a hash, which no spelling can be; the id is in the value.
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

// belongs says whether a key of the bucket is the one of this client: an entry
// that someone else put there is none of ours.
func belongs(key string, client []byte) bool {
	var room [keyMax + 64]byte
	return bytes.Equal(AppendKey(room[:0], client), []byte(key))
}
