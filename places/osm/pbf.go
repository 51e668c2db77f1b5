package osm

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protowire"
)

// The limits of the format.
const (
	maxHeader = 64 << 10
	maxBlob   = 32 << 20
)

var (
	errTruncated = errors.New("the file ends in the middle of a block")
	errMessage   = errors.New("broken message")
	errUneven    = errors.New("lists of different lengths")
	errString    = errors.New("number of a string that is not there")
)

// scanPBF hands v all that is in r, from several goroutines at once: half of the
// processors, so that an edge that loads goes on serving its clients. It looks at ctx
// once a block; a block has some thousand elements.
//
// It is here because the reader of github.com/paulmach/osm, which does the XML, panics
// on broken files in goroutines of its own, where nothing can catch it, and uses cgo
// where there is a C compiler. What of the format a search for places needs is little.
func scanPBF(ctx context.Context, r io.Reader, v visitor) error {
	type block struct {
		at   int64
		kind string
		blob *bytes.Buffer
	}
	workers := max(1, runtime.GOMAXPROCS(0)/2)
	full, empty := make(chan block), make(chan *bytes.Buffer, workers+1)
	for range cap(empty) {
		empty <- new(bytes.Buffer)
	}
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error {
		defer close(full)
		for at := int64(0); v.enough == nil || !v.enough(); {
			var b block
			select {
			case b.blob = <-empty:
			case <-ctx.Done():
				return ctx.Err()
			}
			var length int64
			var err error
			b.at = at
			if b.kind, length, err = readBlock(r, b.blob); err == io.EOF && at > 0 {
				return nil
			} else if err == io.EOF {
				return errTruncated
			} else if err != nil {
				return fmt.Errorf("block at byte %d: %w", at, err)
			}
			if at == 0 && b.kind != "OSMHeader" {
				return fmt.Errorf("no extract: it begins with a block %q", b.kind)
			}
			at += length
			select {
			case full <- b:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range workers {
		d := decoder{visitor: v}
		all.Go(func() error {
			for b := range full {
				if err := guard(func() error { return d.decode(b.kind, b.blob.Bytes()) }); err != nil {
					return fmt.Errorf("block at byte %d: %w", b.at, err)
				}
				empty <- b.blob
			}
			return nil
		})
	}
	return all.Wait()
}

// guard turns a panic into an error: a file must not end an edge (C16).
func guard(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return call()
}

// readBlock reads one block's blob, which is still compressed, and returns its kind and
// the length of both. io.EOF says that there is none.
func readBlock(r io.Reader, blob *bytes.Buffer) (kind string, length int64, err error) {
	var prefix [4]byte
	if n, err := io.ReadFull(r, prefix[:]); n == 0 && err == io.EOF {
		return "", 0, io.EOF
	} else if err != nil {
		return "", 0, cut(err)
	}
	size := binary.BigEndian.Uint32(prefix[:])
	if size > maxHeader {
		return "", 0, fmt.Errorf("no .osm.pbf: a header of %d bytes", size)
	}
	header := make([]byte, size)
	if _, err := io.ReadFull(r, header); err != nil {
		return "", 0, cut(err)
	}
	data := int64(-1)
	err = fields(header, func(n protowire.Number, value []byte, number uint64) error {
		switch {
		case n == 1:
			kind = string(value)
		case n == 3 && number <= maxBlob:
			data = int64(number)
		}
		return nil
	})
	if err != nil || kind == "" || data < 0 {
		return "", 0, errors.New("no .osm.pbf: a broken header of a block")
	}
	blob.Reset()
	if n, err := blob.ReadFrom(io.LimitReader(r, data)); err != nil {
		return "", 0, err
	} else if n < data {
		return "", 0, errTruncated
	}
	return kind, int64(len(prefix)) + int64(size) + data, nil
}

func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errTruncated
	}
	return err
}

// fields calls each with every field of a message: value of those that have bytes,
// number of those that are numbers.
func fields(message []byte, each func(n protowire.Number, value []byte, number uint64) error) error {
	for len(message) > 0 {
		n, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return errMessage
		}
		message = message[size:]
		var value []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			value, size = protowire.ConsumeBytes(message)
		case protowire.VarintType:
			number, size = protowire.ConsumeVarint(message)
		default:
			size = protowire.ConsumeFieldValue(n, kind, message)
		}
		if size < 0 {
			return errMessage
		}
		message = message[size:]
		if err := each(n, value, number); err != nil {
			return err
		}
	}
	return nil
}

// decoder decodes blocks one after the other; its buffers serve all of them.
type decoder struct {
	visitor
	inflater io.ReadCloser // nil before the first
	raw      bytes.Buffer

	strings              [][]byte // of the block
	keys                 []key    // what each of them is as a key; -1 is nothing
	granularity          int64    // nanodegrees
	latOffset, lonOffset int64    // nanodegrees

	ids    []int64
	points []point
	tags   tags
}

func (d *decoder) decode(kind string, blob []byte) error {
	if kind != "OSMHeader" && kind != "OSMData" {
		return nil // the format wants others to be passed over
	}
	data, err := d.inflate(blob)
	if err != nil {
		return err
	}
	if kind == "OSMHeader" {
		return checkHeader(data)
	}
	return d.block(data)
}

// checkHeader refuses what needs more of its reader than this one can.
func checkHeader(data []byte) error {
	return fields(data, func(n protowire.Number, value []byte, _ uint64) error {
		if feature := string(value); n == 4 && feature != "OsmSchema-V0.6" && feature != "DenseNodes" {
			return fmt.Errorf("needs a reader with %q", feature)
		}
		return nil
	})
}

// inflate returns what is in a blob; it is good until the next call.
func (d *decoder) inflate(blob []byte) ([]byte, error) {
	var raw, packed []byte
	var size uint64
	other := ""
	err := fields(blob, func(n protowire.Number, value []byte, number uint64) error {
		switch n {
		case 1:
			raw = value
		case 2:
			size = number
		case 3:
			packed = value
		case 4, 5, 6, 7:
			other = [...]string{"lzma", "bzip2", "lz4", "zstd"}[n-4]
		}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case raw != nil:
		return raw, nil
	case other != "":
		return nil, fmt.Errorf("compressed with %s, want zlib", other)
	case packed == nil:
		return nil, errMessage
	case size > maxBlob:
		return nil, fmt.Errorf("%d bytes, more than a block may have", size)
	}
	if d.inflater == nil {
		d.inflater, err = zlib.NewReader(bytes.NewReader(packed))
	} else {
		err = d.inflater.(zlib.Resetter).Reset(bytes.NewReader(packed), nil)
	}
	if err != nil {
		return nil, fmt.Errorf("inflate: %w", err)
	}
	d.raw.Reset()
	// One byte more, so that what is too long shows; and the checksum is read.
	if n, err := d.raw.ReadFrom(io.LimitReader(d.inflater, int64(size)+1)); err != nil {
		return nil, fmt.Errorf("inflate: %w", err)
	} else if n != int64(size) {
		return nil, fmt.Errorf("inflate: not the %d bytes that were announced", size)
	}
	return d.raw.Bytes(), nil
}

// block decodes a PrimitiveBlock.
func (d *decoder) block(data []byte) error {
	d.strings, d.keys = d.strings[:0], d.keys[:0]
	d.granularity, d.latOffset, d.lonOffset = 100, 0, 0
	err := fields(data, func(n protowire.Number, value []byte, number uint64) error {
		switch n {
		case 1:
			return fields(value, func(n protowire.Number, value []byte, _ uint64) error {
				if n == 1 {
					k, known := keyOf[string(value)]
					if !known {
						k = -1
					}
					d.strings, d.keys = append(d.strings, value), append(d.keys, k)
				}
				return nil
			})
		case 17:
			d.granularity = int64(number)
		case 19:
			d.latOffset = int64(number)
		case 20:
			d.lonOffset = int64(number)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return fields(data, func(n protowire.Number, value []byte, _ uint64) error {
		if n != 2 {
			return nil
		}
		return fields(value, func(n protowire.Number, value []byte, _ uint64) error {
			switch {
			case n == 1:
				return d.plain(value)
			case n == 2:
				return d.dense(value)
			case n == 3 && d.way != nil:
				return d.oneWay(value)
			}
			return nil
		})
	})
}

// at returns the point of a latitude and a longitude as blocks have them.
func (d *decoder) at(lat, lon int64) point {
	return pointOf(d.latOffset+d.granularity*lat, d.lonOffset+d.granularity*lon)
}

// tag notes one tag of the element at hand, by the numbers of its strings.
func (d *decoder) tag(k, value uint64) error {
	if k >= uint64(len(d.strings)) || value >= uint64(len(d.strings)) {
		return errString
	}
	if of := d.keys[k]; of >= 0 {
		d.tags.set(of, d.strings[value])
	}
	return nil
}

// pairs notes the tags of two lists.
func (d *decoder) pairs(ks, values varints) error {
	d.tags = tags{}
	for len(ks) > 0 {
		k, err1 := ks.next()
		value, err2 := values.next()
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		if err := d.tag(k, value); err != nil {
			return err
		}
	}
	return nil
}

// plain decodes a Node.
func (d *decoder) plain(data []byte) error {
	var id, lat, lon int64
	var ks, values varints
	err := fields(data, func(n protowire.Number, value []byte, number uint64) (err error) {
		switch n {
		case 1:
			id = protowire.DecodeZigZag(number)
		case 2:
			err = ks.take(value)
		case 3:
			err = values.take(value)
		case 8:
			lat = protowire.DecodeZigZag(number)
		case 9:
			lon = protowire.DecodeZigZag(number)
		}
		return err
	})
	if err != nil {
		return err
	}
	at := d.at(lat, lon)
	d.located([]int64{id}, []point{at})
	if d.tagged == nil || len(ks) == 0 {
		return nil
	}
	if err := d.pairs(ks, values); err != nil {
		return err
	}
	d.tagged(id, at, &d.tags)
	return nil
}

// dense decodes DenseNodes.
func (d *decoder) dense(data []byte) error {
	var ids, lats, lons, tagged varints
	err := fields(data, func(n protowire.Number, value []byte, _ uint64) (err error) {
		switch n {
		case 1:
			err = ids.take(value)
		case 8:
			err = lats.take(value)
		case 9:
			err = lons.take(value)
		case 10:
			err = tagged.take(value)
		}
		return err
	})
	if err != nil {
		return err
	}
	d.ids, d.points = d.ids[:0], d.points[:0]
	var id, lat, lon int64
	for len(ids) > 0 {
		err := errors.Join(ids.add(&id), lats.add(&lat), lons.add(&lon))
		if err != nil {
			return err
		}
		d.ids, d.points = append(d.ids, id), append(d.points, d.at(lat, lon))
	}
	d.located(d.ids, d.points)
	if d.tagged == nil {
		return nil
	}
	// Key, value, key, value, 0 for each node; nothing at all where none has any.
	for i := 0; i < len(d.ids) && len(tagged) > 0; i++ {
		if tagged[0] == 0 {
			tagged = tagged[1:]
			continue
		}
		d.tags = tags{}
		for {
			k, err := tagged.next()
			if err != nil {
				return err
			}
			if k == 0 {
				break
			}
			value, err := tagged.next()
			if err != nil {
				return err
			}
			if err := d.tag(k, value); err != nil {
				return err
			}
		}
		d.tagged(d.ids[i], d.points[i], &d.tags)
	}
	return nil
}

// oneWay decodes a Way.
func (d *decoder) oneWay(data []byte) error {
	var id int64
	var ks, values, refs, lats, lons varints
	err := fields(data, func(n protowire.Number, value []byte, number uint64) (err error) {
		switch n {
		case 1:
			id = int64(number)
		case 2:
			err = ks.take(value)
		case 3:
			err = values.take(value)
		case 8:
			err = refs.take(value)
		case 9:
			err = lats.take(value)
		case 10:
			err = lons.take(value)
		}
		return err
	})
	if err != nil || len(ks) == 0 {
		return err
	}
	if err := d.pairs(ks, values); err != nil {
		return err
	}
	if len(d.tags[name]) == 0 {
		return nil
	}
	d.ids, d.points = d.ids[:0], d.points[:0]
	var ref, lat, lon int64
	for len(refs) > 0 {
		if err := refs.add(&ref); err != nil {
			return err
		}
		d.ids = append(d.ids, ref)
	}
	for len(lats) > 0 { // some extracts have them in place of the nodes
		if err := errors.Join(lats.add(&lat), lons.add(&lon)); err != nil {
			return err
		}
		d.points = append(d.points, d.at(lat, lon))
	}
	d.way(id, d.ids, d.points, &d.tags)
	return nil
}

// varints are numbers one behind the other, a packed field.
type varints []byte

// take takes the field's value, which no writer splits in two.
func (v *varints) take(value []byte) error {
	if len(*v) > 0 {
		return errors.New("a list in two parts")
	}
	*v = value
	return nil
}

func (v *varints) next() (uint64, error) {
	if len(*v) > 0 && (*v)[0] < 0x80 { // most of them
		n := uint64((*v)[0])
		*v = (*v)[1:]
		return n, nil
	}
	n, size := protowire.ConsumeVarint(*v)
	if size < 0 {
		if len(*v) == 0 {
			return 0, errUneven
		}
		return 0, errMessage
	}
	*v = (*v)[size:]
	return n, nil
}

// add adds the next number, a difference with a sign, to sum.
func (v *varints) add(sum *int64) error {
	n, err := v.next()
	if err == nil {
		*sum += protowire.DecodeZigZag(n)
	}
	return err
}

// point is a place on Earth in units of 1e-7 degrees, which is how OpenStreetMap keeps
// it, about a centimetre.
type point struct{ lat, lon int32 }

// nowhere is no point.
var nowhere = point{math.MinInt32, math.MinInt32}

// pointOf rounds nanodegrees; what is beyond the poles or 180° is nowhere.
func pointOf(lat, lon int64) point {
	if lat < -90e9 || lat > 90e9 || lon < -180e9 || lon > 180e9 {
		return nowhere
	}
	round := func(n int64) int32 {
		if n < 0 {
			return int32((n - 50) / 100)
		}
		return int32((n + 50) / 100)
	}
	return point{round(lat), round(lon)}
}
