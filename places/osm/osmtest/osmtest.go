// Package osmtest writes extracts of OpenStreetMap for tests, in every form that the
// .osm.pbf format leaves to its writers. It knows nothing of who reads them.
package osmtest

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Node is a node; Tags are keys and values in turn.
type Node struct {
	ID       int64
	Lat, Lon float64 // degrees
	Tags     []string
}

// Way is a way; Tags are keys and values in turn.
type Way struct {
	ID    int64
	Nodes []int64
	Tags  []string
}

// Form is what the format leaves open. The zero value is what nearly all extracts have.
type Form struct {
	Plain       bool  // nodes one by one in place of dense ones
	Raw         bool  // not compressed
	Located     bool  // ways have the points of their nodes, and nodes without tags are left out
	Granularity int64 // nanodegrees, 0 is 100
	LatOffset   int64 // nanodegrees
	LonOffset   int64 // nanodegrees
	Block       int   // elements in a block, 0 is 8000
}

// PBF returns an .osm.pbf file.
func PBF(f Form, nodes []Node, ways []Way) []byte {
	if f.Granularity == 0 {
		f.Granularity = 100
	}
	if f.Block == 0 {
		f.Block = 8000
	}
	var header []byte
	for _, feature := range []string{"OsmSchema-V0.6", "DenseNodes"} {
		header = protowire.AppendString(protowire.AppendTag(header, 4, protowire.BytesType), feature)
	}
	file := Block("OSMHeader", f.blob(header))
	at := make(map[int64]Node)
	if f.Located {
		var tagged []Node
		for _, n := range nodes {
			at[n.ID] = n
			if len(n.Tags) > 0 {
				tagged = append(tagged, n)
			}
		}
		nodes = tagged
	}
	for len(nodes) > 0 {
		n := min(f.Block, len(nodes))
		t := newTable()
		file = append(file, Block("OSMData", f.blob(f.block(t, f.nodes(t, nodes[:n]))))...)
		nodes = nodes[n:]
	}
	for len(ways) > 0 {
		n := min(f.Block, len(ways))
		t := newTable()
		file = append(file, Block("OSMData", f.blob(f.block(t, f.ways(t, ways[:n], at))))...)
		ways = ways[n:]
	}
	return file
}

// Block returns one block of a file, by the kind and the blob.
func Block(kind string, blob []byte) []byte {
	header := bytesField(nil, 1, []byte(kind))
	header = numberField(header, 3, uint64(len(blob)))
	block := binary.BigEndian.AppendUint32(nil, uint32(len(header)))
	return append(append(block, header...), blob...)
}

// Zlib returns a blob of data, which says that it is size bytes.
func Zlib(data []byte, size int) []byte {
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	_, _ = w.Write(data) // a buffer takes all
	_ = w.Close()
	return bytesField(numberField(nil, 2, uint64(size)), 3, packed.Bytes())
}

func (f Form) blob(data []byte) []byte {
	if f.Raw {
		return bytesField(nil, 1, data)
	}
	return Zlib(data, len(data))
}

// block returns a PrimitiveBlock of one group.
func (f Form) block(t *table, group []byte) []byte {
	var strings []byte
	for _, s := range t.strings {
		strings = bytesField(strings, 1, []byte(s))
	}
	b := bytesField(nil, 1, strings)
	b = bytesField(b, 2, group)
	if f.Granularity != 100 {
		b = numberField(b, 17, uint64(f.Granularity))
	}
	if f.LatOffset != 0 {
		b = numberField(b, 19, uint64(f.LatOffset))
	}
	if f.LonOffset != 0 {
		b = numberField(b, 20, uint64(f.LonOffset))
	}
	return b
}

func (f Form) units(n Node) (lat, lon int64) {
	unit := func(degrees float64, offset int64) int64 {
		return int64(math.Round((degrees*1e9 - float64(offset)) / float64(f.Granularity)))
	}
	return unit(n.Lat, f.LatOffset), unit(n.Lon, f.LonOffset)
}

func (f Form) nodes(t *table, nodes []Node) (group []byte) {
	if f.Plain {
		for _, n := range nodes {
			lat, lon := f.units(n)
			keys, values := t.pairs(n.Tags)
			node := numberField(nil, 1, protowire.EncodeZigZag(n.ID))
			node = bytesField(bytesField(node, 2, keys), 3, values)
			node = numberField(node, 8, protowire.EncodeZigZag(lat))
			node = numberField(node, 9, protowire.EncodeZigZag(lon))
			group = bytesField(group, 1, node)
		}
		return group
	}
	var ids, lats, lons, tags []byte
	var id, lat, lon int64
	some := false
	for _, n := range nodes {
		y, x := f.units(n)
		ids, lats, lons = delta(ids, &id, n.ID), delta(lats, &lat, y), delta(lons, &lon, x)
		for _, s := range n.Tags {
			tags, some = protowire.AppendVarint(tags, t.number(s)), true
		}
		tags = append(tags, 0)
	}
	dense := bytesField(nil, 1, ids)
	dense = bytesField(bytesField(dense, 8, lats), 9, lons)
	if some {
		dense = bytesField(dense, 10, tags)
	}
	return bytesField(nil, 2, dense)
}

func (f Form) ways(t *table, ways []Way, at map[int64]Node) (group []byte) {
	for _, w := range ways {
		keys, values := t.pairs(w.Tags)
		var refs, lats, lons []byte
		var ref, lat, lon int64
		for _, n := range w.Nodes {
			refs = delta(refs, &ref, n)
			if f.Located {
				y, x := f.units(at[n])
				lats, lons = delta(lats, &lat, y), delta(lons, &lon, x)
			}
		}
		way := numberField(nil, 1, uint64(w.ID))
		way = bytesField(bytesField(way, 2, keys), 3, values)
		way = bytesField(way, 8, refs)
		if f.Located {
			way = bytesField(bytesField(way, 9, lats), 10, lons)
		}
		group = bytesField(group, 3, way)
	}
	return group
}

// table is a block's strings; the first is empty, as the format wants it.
type table struct {
	strings []string
	known   map[string]uint64
}

func newTable() *table { return &table{[]string{""}, make(map[string]uint64)} }

func (t *table) number(s string) uint64 {
	n, ok := t.known[s]
	if !ok {
		n = uint64(len(t.strings))
		t.known[s] = n
		t.strings = append(t.strings, s)
	}
	return n
}

func (t *table) pairs(tags []string) (keys, values []byte) {
	for i := 0; i+1 < len(tags); i += 2 {
		keys = protowire.AppendVarint(keys, t.number(tags[i]))
		values = protowire.AppendVarint(values, t.number(tags[i+1]))
	}
	return keys, values
}

func delta(b []byte, last *int64, n int64) []byte {
	b = protowire.AppendVarint(b, protowire.EncodeZigZag(n-*last))
	*last = n
	return b
}

func bytesField(b []byte, n protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), value)
}

func numberField(b []byte, n protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), value)
}
