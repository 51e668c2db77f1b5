package load

import (
	"strconv"

	"herd/edge/client"
)

// homes are where the clients are, in millionths of a degree: a city in each quarter of the
// globe, so that every combination of signs occurs.
var homes = [...]struct{ lat, lon int32 }{
	{34_068930, -118_445127}, // Los Angeles
	{-33_868820, 151_209290}, // Sydney
	{-180653, -78_467834},    // Quito
	{51_507351, -127758},     // London
	{35_689487, 139_691711},  // Tokyo
}

const (
	around = 200_000 // how far from home a client starts, in millionths of a degree
	stride = 500     // how far it moves between two reports, about 50 m
)

// walker is the state of one client, as one connection knows it.
type walker struct {
	lat, lon int32  // millionths of a degree
	stamp    int64  // its newest time, ns since 1970; 0 before its first report
	request  uint64 // the number of the request that reported it
}

func newWalker(client int) walker {
	home := homes[client%len(homes)]
	dice := mix(uint64(client))
	return walker{lat: home.lat + throw(dice, around), lon: home.lon + throw(dice>>32, around)}
}

// step moves the client and sets its time: now, but always later than its last.
func (w *walker) step(now int64) {
	now = max(now, w.stamp+1)
	dice := mix(uint64(now) ^ uint64(uint32(w.lat))<<32)
	// Homes are far from the poles and the antimeridian, but in a long run a client may get
	// there.
	w.lat = min(max(w.lat+throw(dice, stride), -90_000000), 90_000000)
	w.lon = min(max(w.lon+throw(dice>>32, stride), -180_000000), 180_000000)
	w.stamp = now
}

// throw returns a number from -reach to reach, made from the low half of dice.
func throw(dice uint64, reach int32) int32 {
	return int32(uint64(uint32(dice))*uint64(2*reach+1)>>32) - reach
}

// mix is the finalizer of splitmix64: adjacent inputs give unrelated results.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// appendIAMAT appends the client's report with its LF (C6 to C8).
func (w *walker) appendIAMAT(dst []byte, prefix string, number int) []byte {
	dst = append(dst, "IAMAT "...)
	dst = appendClient(dst, prefix, number)
	dst = append(dst, ' ')
	dst = appendDegrees(dst, w.lat)
	dst = appendDegrees(dst, w.lon)
	dst = append(dst, ' ')
	dst = client.AppendTime(dst, w.stamp)
	return append(dst, '\n')
}

func appendClient(dst []byte, prefix string, client int) []byte {
	return strconv.AppendInt(append(dst, prefix...), int64(client), 10)
}

func appendDegrees(dst []byte, millionths int32) []byte {
	sign := byte('+')
	if millionths < 0 {
		sign, millionths = '-', -millionths
	}
	dst = append(dst, sign)
	dst = strconv.AppendInt(dst, int64(millionths/1_000_000), 10)
	dst = append(dst, '.')
	from := len(dst)
	dst = append(dst, "000000"...)
	for i, x := len(dst)-1, millionths%1_000_000; i >= from; i-- {
		dst[i] = byte('0' + x%10)
		x /= 10
	}
	return dst
}
