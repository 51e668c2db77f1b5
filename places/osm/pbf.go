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
	"slices"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/encoding/protowire"
)

// The limits of the format.
const (
	maxHeader = 64 << 10
	maxBlob   = 32 << 20

	// maxList bounds the memory for a block: its strings, elements, or nodes per way. The
	// format allows at most 8,000 elements per block, and writers respect that; but a list of
	// empty elements can have millions in a few packed bytes.
	maxList = 1 << 20
)

var (
	errTruncated = errors.New("the file ends in the middle of a block")
	errMessage   = errors.New("broken message")
	errUneven    = errors.New("lists of different lengths")
	errTooMany   = fmt.Errorf("more than the %d that a block may have", maxList)
	errString    = errors.New("string number out of range")
)

// scanPBF passes the elements of r to v, from several goroutines at once. It uses half of the
// processors, so that an edge that loads still serves its clients. It checks ctx once per
// block, which has some thousand elements.
//
// This decoder exists because that of github.com/paulmach/osm panics on broken files in its
// own goroutines, where the panic cannot be recovered, and uses cgo if there is a C compiler.
// A search for places needs little of the format.
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
				return fmt.Errorf("not an extract: it begins with a block %q", b.kind)
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

// guard turns a panic into an error: a broken file must not end an edge (C16).
func guard(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return call()
}

// readBlock reads one block's blob, still compressed, and returns its kind and the length of
// both. io.EOF means that there are no more blocks.
func readBlock(r io.Reader, blob *bytes.Buffer) (kind string, length int64, err error) {
	var prefix [4]byte
	if n, err := io.ReadFull(r, prefix[:]); n == 0 && err == io.EOF {
		return "", 0, io.EOF
	} else if err != nil {
		return "", 0, cut(err)
	}
	size := binary.BigEndian.Uint32(prefix[:])
	if size > maxHeader {
		return "", 0, fmt.Errorf("not an .osm.pbf file: a header of %d bytes", size)
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
		return "", 0, errors.New("not an .osm.pbf file: a broken header of a block")
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

// fields calls each with every field of a message: value for fields with bytes, number for
// numeric ones.
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

// decoder decodes one block after another and reuses its buffers.
type decoder struct {
	visitor
	inflater io.ReadCloser // nil before the first
	raw      bytes.Buffer

	strings              [][]byte // the block's strings
	keys                 []key    // the key that each of them is; -1 means none
	granularity          int64    // nanodegrees
	latOffset, lonOffset int64    // nanodegrees

	ids    []int64
	points []point
	tags   tags
	infos  []info
	last   previous // last element of the block
}

// info has what is needed of an element's Info.
type info struct {
	version uint32
	deleted bool
}

func (d *decoder) decode(kind string, blob []byte) error {
	if kind != "OSMHeader" && kind != "OSMData" {
		return nil // the format requires that other kinds are skipped
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

// checkHeader refuses files with features that this reader does not have.
func checkHeader(data []byte) error {
	return fields(data, func(n protowire.Number, value []byte, _ uint64) error {
		if feature := string(value); n == 4 && feature != "OsmSchema-V0.6" && feature != "DenseNodes" {
			return fmt.Errorf("needs a reader with %q", feature)
		}
		return nil
	})
}

// inflate returns the content of a blob, which is valid until the next call.
func (d *decoder) inflate(blob []byte) ([]byte, error) {
	var raw, packed []byte
	size, sized := uint64(maxBlob), false // the size is optional
	other := ""
	err := fields(blob, func(n protowire.Number, value []byte, number uint64) error {
		switch n {
		case 1:
			raw = value
		case 2:
			size, sized = number, true
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
	d.raw.Grow(int(size) + bytes.MinRead + 1) // it would double its capacity otherwise
	// Read one byte more, to detect too much content and to check the checksum.
	if n, err := d.raw.ReadFrom(io.LimitReader(d.inflater, int64(size)+1)); err != nil {
		return nil, fmt.Errorf("inflate: %w", err)
	} else if n > int64(size) && !sized {
		return nil, fmt.Errorf("more than the %d bytes that a block may have", size)
	} else if n != int64(size) && sized {
		return nil, fmt.Errorf("inflate: not the announced %d bytes", size)
	}
	return d.raw.Bytes(), nil
}

// block decodes a PrimitiveBlock.
func (d *decoder) block(data []byte) error {
	d.strings, d.keys = d.strings[:0], d.keys[:0]
	d.granularity, d.latOffset, d.lonOffset = 100, 0, 0
	d.last = previous{}
	err := fields(data, func(n protowire.Number, value []byte, number uint64) error {
		switch n {
		case 1:
			return fields(value, func(n protowire.Number, value []byte, _ uint64) error {
				if n == 1 {
					if len(d.strings) == maxList {
						return errTooMany
					}
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

// at returns the point of a latitude and longitude in the block's units.
func (d *decoder) at(lat, lon int64) point {
	return pointOf(d.latOffset+d.granularity*lat, d.lonOffset+d.granularity*lon)
}

// tag sets one tag of the current element, by the numbers of its strings.
func (d *decoder) tag(k, value uint64) error {
	if k >= uint64(len(d.strings)) || value >= uint64(len(d.strings)) {
		return errString
	}
	if of := d.keys[k]; of >= 0 {
		d.tags.set(of, d.strings[value])
	}
	return nil
}

// pairs sets the tags of two lists.
func (d *decoder) pairs(ks, values varints) error {
	d.tags = tags{}
	for !ks.end() {
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

// read decodes an Info.
func (i *info) read(data []byte) error {
	return fields(data, func(n protowire.Number, _ []byte, number uint64) error {
		switch n {
		case 1:
			i.version = uint32(number)
		case 6:
			i.deleted = number == 0
		}
		return nil
	})
}

// plain decodes a Node.
func (d *decoder) plain(data []byte) error {
	var id, lat, lon int64
	var ks, values varints
	var about info
	err := fields(data, func(n protowire.Number, value []byte, number uint64) (err error) {
		switch n {
		case 1:
			id = protowire.DecodeZigZag(number)
		case 2:
			ks.take(value, number)
		case 3:
			values.take(value, number)
		case 4:
			err = about.read(value)
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
	if d.last.differs("node", id, about.version) {
		return errHistory
	}
	if about.deleted {
		return nil
	}
	at := d.at(lat, lon)
	d.located([]int64{id}, []point{at})
	if d.tagged == nil || ks.end() {
		return nil
	}
	if err := d.pairs(ks, values); err != nil {
		return err
	}
	d.tagged(id, about.version, at, &d.tags)
	return nil
}

// dense decodes DenseNodes.
func (d *decoder) dense(data []byte) error {
	var ids, lats, lons, tagged, versions, visible varints
	err := fields(data, func(n protowire.Number, value []byte, number uint64) error {
		switch n {
		case 1:
			ids.take(value, number)
		case 5: // DenseInfo
			return fields(value, func(n protowire.Number, value []byte, number uint64) error {
				switch n {
				case 1:
					versions.take(value, number)
				case 6:
					visible.take(value, number)
				}
				return nil
			})
		case 8:
			lats.take(value, number)
		case 9:
			lons.take(value, number)
		case 10:
			tagged.take(value, number)
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.ids, d.points, d.infos = d.ids[:0], d.points[:0], d.infos[:0]
	var id, lat, lon int64
	for !ids.end() {
		if len(d.ids) == maxList {
			return errTooMany
		}
		if err := errors.Join(ids.add(&id), lats.add(&lat), lons.add(&lon)); err != nil {
			return err
		}
		var about info
		if !versions.end() { // either all nodes have one, or none has
			n, err := versions.next()
			if err != nil {
				return err
			}
			about.version = uint32(n)
		}
		if !visible.end() {
			n, err := visible.next()
			if err != nil {
				return err
			}
			about.deleted = n == 0
		}
		if d.last.differs("node", id, about.version) {
			return errHistory
		}
		at := d.at(lat, lon)
		if about.deleted {
			at = nowhere
		}
		d.ids, d.points, d.infos = append(d.ids, id), append(d.points, at), append(d.infos, about)
	}
	d.located(d.ids, d.points)
	if d.tagged == nil {
		return nil
	}
	// Key, value, key, value, 0 per node; nothing at all if no node has tags.
	for i := 0; i < len(d.ids) && !tagged.end(); i++ {
		k, err := tagged.next()
		if err != nil {
			return err
		}
		if k == 0 {
			continue
		}
		for d.tags = (tags{}); k != 0; {
			value, err := tagged.next()
			if err != nil {
				return err
			}
			if err := d.tag(k, value); err != nil {
				return err
			}
			if k, err = tagged.next(); err != nil {
				return err
			}
		}
		d.tagged(d.ids[i], d.infos[i].version, d.points[i], &d.tags)
	}
	return nil
}

// oneWay decodes a Way.
func (d *decoder) oneWay(data []byte) error {
	var id int64
	var ks, values, refs, lats, lons varints
	var about info
	err := fields(data, func(n protowire.Number, value []byte, number uint64) (err error) {
		switch n {
		case 1:
			id = int64(number)
		case 2:
			ks.take(value, number)
		case 3:
			values.take(value, number)
		case 4:
			err = about.read(value)
		case 8:
			refs.take(value, number)
		case 9:
			lats.take(value, number)
		case 10:
			lons.take(value, number)
		}
		return err
	})
	if err != nil {
		return err
	}
	if d.last.differs("way", id, about.version) {
		return errHistory
	}
	if about.deleted || ks.end() {
		return nil
	}
	if err := d.pairs(ks, values); err != nil {
		return err
	}
	if len(d.tags[name]) == 0 {
		return nil
	}
	d.ids, d.points = d.ids[:0], d.points[:0]
	var ref, lat, lon int64
	for !refs.end() {
		if len(d.ids) == maxList {
			return errTooMany
		}
		if err := refs.add(&ref); err != nil {
			return err
		}
		d.ids = append(d.ids, ref)
	}
	for !lats.end() { // some extracts have them instead of the nodes
		if len(d.points) == maxList {
			return errTooMany
		}
		if err := errors.Join(lats.add(&lat), lons.add(&lon)); err != nil {
			return err
		}
		d.points = append(d.points, d.at(lat, lon))
	}
	d.way(id, about.version, d.ids, d.points, &d.tags)
	return nil
}

// varints is a sequence of numbers: a repeated field, in whichever form its writer chose.
type varints struct {
	bytes []byte
	own   bool // bytes is a copy
}

// take takes one part of the field: a packed list or a single number. Nearly always one
// packed list is the whole field.
func (v *varints) take(packed []byte, number uint64) {
	switch {
	case packed != nil && len(v.bytes) == 0:
		v.bytes, v.own = packed, false
		return
	case !v.own:
		v.bytes, v.own = slices.Clone(v.bytes), true
	}
	if packed != nil {
		v.bytes = append(v.bytes, packed...)
	} else {
		v.bytes = protowire.AppendVarint(v.bytes, number)
	}
}

// end reports whether there are no more numbers.
func (v *varints) end() bool { return len(v.bytes) == 0 }

func (v *varints) next() (uint64, error) {
	if len(v.bytes) > 0 && v.bytes[0] < 0x80 { // the common case
		n := uint64(v.bytes[0])
		v.bytes = v.bytes[1:]
		return n, nil
	}
	n, size := protowire.ConsumeVarint(v.bytes)
	if size < 0 {
		if len(v.bytes) == 0 {
			return 0, errUneven
		}
		return 0, errMessage
	}
	v.bytes = v.bytes[size:]
	return n, nil
}

// add adds the next number, a signed difference, to sum.
func (v *varints) add(sum *int64) error {
	n, err := v.next()
	if err == nil {
		*sum += protowire.DecodeZigZag(n)
	}
	return err
}

// point is a point on Earth in units of 1e-7 degrees, about a centimetre, the precision of
// OpenStreetMap.
type point struct{ lat, lon int32 }

// nowhere means no position.
var nowhere = point{math.MinInt32, math.MinInt32}

// pointOf rounds nanodegrees; coordinates beyond the poles or 180° give nowhere.
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
