// Package osmtest writes extracts of OpenStreetMap for tests, in every form that the .osm.pbf
// format allows. It knows nothing of its readers.
package osmtest

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Node is a node. Tags alternates keys and values.
type Node struct {
	ID       int64
	Lat, Lon float64 // degrees
	Tags     []string
	Version  int  // 0: no version; for dense nodes the first of a block decides for all
	Deleted  bool // deleted in this version, in a history
}

// Way is a way. Tags alternates keys and values.
type Way struct {
	ID      int64
	Nodes   []int64
	Tags    []string
	Version int  // 0: no version
	Deleted bool // deleted in this version, in a history
}

// Form selects among the forms that the format allows. The zero value is the form of nearly
// all extracts.
type Form struct {
	Plain       bool  // nodes one by one instead of dense ones
	Raw         bool  // not compressed
	Unsized     bool  // compressed, without the size of the content
	Unpacked    bool  // lists are repeated fields, one number per field
	Parts       bool  // packed lists are split in two parts
	Located     bool  // ways have the points of their nodes, and nodes without tags are left out
	Granularity int64 // nanodegrees; 0 means 100
	LatOffset   int64 // nanodegrees
	LonOffset   int64 // nanodegrees
	Block       int   // elements per block; 0 means 8000
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

// Block returns one block of a file with this kind and blob.
func Block(kind string, blob []byte) []byte {
	header := bytesField(nil, 1, []byte(kind))
	header = numberField(header, 3, uint64(len(blob)))
	block := binary.BigEndian.AppendUint32(nil, uint32(len(header)))
	return append(append(block, header...), blob...)
}

// Zlib returns a compressed blob of data, which states size as the size of the content.
func Zlib(data []byte, size int) []byte {
	var packed bytes.Buffer
	w := zlib.NewWriter(&packed)
	_, _ = w.Write(data) // writing to a buffer cannot fail
	_ = w.Close()
	return bytesField(numberField(nil, 2, uint64(size)), 3, packed.Bytes())
}

// ZlibOnly returns a compressed blob of data without the optional size of the content.
func ZlibOnly(data []byte) []byte {
	sized := Zlib(data, 0)
	return sized[len(numberField(nil, 2, 0)):]
}

func (f Form) blob(data []byte) []byte {
	if f.Unsized {
		return ZlibOnly(data)
	}
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
			node = f.list(f.list(node, 2, keys), 3, values)
			node = append(node, about(4, n.Version, n.Deleted)...)
			node = numberField(node, 8, protowire.EncodeZigZag(lat))
			node = numberField(node, 9, protowire.EncodeZigZag(lon))
			group = bytesField(group, 1, node)
		}
		return group
	}
	var ids, lats, lons, tags, versions, visible []byte
	var id, lat, lon int64
	some := false
	for _, n := range nodes {
		y, x := f.units(n)
		ids, lats, lons = delta(ids, &id, n.ID), delta(lats, &lat, y), delta(lons, &lon, x)
		for _, s := range n.Tags {
			tags, some = protowire.AppendVarint(tags, t.number(s)), true
		}
		tags = append(tags, 0)
		versions = protowire.AppendVarint(versions, uint64(n.Version))
		visible = protowire.AppendVarint(visible, protowire.EncodeBool(!n.Deleted))
	}
	dense := f.list(nil, 1, ids)
	if nodes[0].Version > 0 {
		dense = bytesField(dense, 5, f.list(f.list(nil, 1, versions), 6, visible))
	}
	dense = f.list(f.list(dense, 8, lats), 9, lons)
	if some {
		dense = f.list(dense, 10, tags)
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
		way = f.list(f.list(way, 2, keys), 3, values)
		way = append(way, about(4, w.Version, w.Deleted)...)
		way = f.list(way, 8, refs)
		if f.Located {
			way = f.list(f.list(way, 9, lats), 10, lons)
		}
		group = bytesField(group, 3, way)
	}
	return group
}

// list adds a list of numbers, which are packed already.
func (f Form) list(b []byte, n protowire.Number, packed []byte) []byte {
	switch {
	case f.Unpacked:
		for len(packed) > 0 {
			number, size := protowire.ConsumeVarint(packed)
			b, packed = numberField(b, n, number), packed[size:]
		}
		return b
	case f.Parts:
		_, size := protowire.ConsumeVarint(packed)
		size = max(size, 0)
		return bytesField(bytesField(b, n, packed[:size]), n, packed[size:])
	}
	return bytesField(b, n, packed)
}

// about returns an element's Info.
func about(n protowire.Number, version int, deleted bool) []byte {
	if version == 0 {
		return nil
	}
	info := numberField(nil, 1, uint64(version))
	return bytesField(nil, n, numberField(info, 6, protowire.EncodeBool(!deleted)))
}

// table is a block's strings; the first is empty, as the format requires.
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
