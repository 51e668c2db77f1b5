// Package certs reads the PEM files of TLS: a certificate with its key, and the authorities
// that sign other certificates. It reads them again while they are in use, so a renewed
// certificate needs no restart.
//
// It knows nothing of connections or variables: the edge's client port, its connection to
// the broker and the tool all use it.
package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// Files names PEM files. Cert and Key go together. A file with an empty name is not used.
type Files struct {
	Cert string // a certificate, followed by its intermediates
	Key  string // the key of Cert
	CA   string // certificates of authorities, one or more
}

// Held is the content of Files. It is never changed.
type Held struct {
	Pair *tls.Certificate // nil without Files.Cert; its Leaf is set
	CA   *x509.CertPool   // nil without Files.CA
	text contents         // the content that it was made from
}

// A FileError says which file is wrong. Its text has the file's name, and nothing of a key
// file's content.
type FileError struct {
	File string
	Err  error
}

func (e *FileError) Error() string { return fmt.Sprintf("%s: %v", e.File, e.Err) }

// Unwrap returns what is wrong, without the file's name.
func (e *FileError) Unwrap() error { return e.Err }

// Read reads all files. Its errors are of type *FileError, one per wrong file, joined by
// [errors.Join]. An expired certificate is no error: see [Expiry].
func Read(f Files) (*Held, error) {
	text, err := f.read()
	if err != nil {
		return nil, err
	}
	return text.parse(f)
}

// contents is the content of the files when they were read.
type contents struct{ cert, key, ca string }

func (f Files) read() (c contents, err error) {
	var errs []error
	for _, file := range []struct {
		name string
		text *string
	}{{f.Cert, &c.cert}, {f.Key, &c.key}, {f.CA, &c.ca}} {
		if file.name == "" {
			continue
		}
		text, err := os.ReadFile(file.name)
		if err != nil {
			if path, ok := errors.AsType[*fs.PathError](err); ok {
				err = path.Err
			}
			errs = append(errs, &FileError{file.name, err})
		}
		*file.text = string(text)
	}
	return c, errors.Join(errs...)
}

// parse parses what was read from f.
func (c contents) parse(f Files) (*Held, error) {
	h := &Held{text: c}
	var errs []error
	if f.Cert != "" {
		if _, err := certificates(c.cert); err != nil {
			errs = append(errs, &FileError{f.Cert, err})
		} else if pair, err := tls.X509KeyPair([]byte(c.cert), []byte(c.key)); err != nil {
			errs = append(errs, &FileError{f.Key, err}) // the certificate alone is valid
		} else {
			h.Pair = &pair
		}
	}
	if f.CA != "" {
		if list, err := certificates(c.ca); err != nil {
			errs = append(errs, &FileError{f.CA, err})
		} else {
			h.CA = x509.NewCertPool()
			for _, cert := range list {
				h.CA.AddCert(cert)
			}
		}
	}
	return h, errors.Join(errs...)
}

// certificates returns all certificates in text. It is stricter than crypto/tls and
// crypto/x509, which skip what they cannot read: they would take a half-written file for a
// shorter list.
func certificates(text string) (list []*x509.Certificate, err error) {
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list = append(list, cert)
	}
	switch {
	case bytes.Contains(rest, []byte("-----BEGIN")):
		return nil, errors.New("a certificate is truncated or damaged")
	case len(list) == 0:
		return nil, errors.New("no certificate in it")
	}
	return list, nil
}

// Expiry says in words that a certificate is not valid at the given time. It returns "" if it
// is.
func Expiry(cert *x509.Certificate, now time.Time) string {
	switch {
	case now.After(cert.NotAfter):
		return "the certificate expired at " + cert.NotAfter.UTC().Format(time.RFC3339)
	case now.Before(cert.NotBefore):
		return "the certificate is not valid before " + cert.NotBefore.UTC().Format(time.RFC3339)
	}
	return ""
}
