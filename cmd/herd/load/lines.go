package load

import "strconv"

// homes are where the clients live, in millionths of a degree: a town in each
// quarter of the globe, so that every pair of signs occurs.
var homes = [...]struct{ lat, lon int32 }{
	{34_068930, -118_445127}, // Los Angeles
	{-33_868820, 151_209290}, // Sydney
	{-180653, -78_467834},    // Quito
	{51_507351, -127758},     // London
	{35_689487, 139_691711},  // Tokyo
}

const (
	around = 200_000 // how far from home a client starts, in millionths of a degree
	stride = 500     // how far it gets between two reports, about 50 m
)

// walker is one client as one connection knows it.
type walker struct {
	lat, lon int32  // millionths of a degree
	stamp    int64  // its newest time, ns since 1970; 0 before it told any
	request  uint64 // the number of the request that told it
}

func newWalker(client int) walker {
	home := homes[client%len(homes)]
	dice := mix(uint64(client))
	return walker{lat: home.lat + throw(dice, around), lon: home.lon + throw(dice>>32, around)}
}

// step moves the client on and gives it a time: now, but later than its last.
func (w *walker) step(now int64) {
	now = max(now, w.stamp+1)
	dice := mix(uint64(now) ^ uint64(uint32(w.lat))<<32)
	// Homes are far from the poles and the antimeridian, but a long run may get there.
	w.lat = min(max(w.lat+throw(dice, stride), -90_000000), 90_000000)
	w.lon = min(max(w.lon+throw(dice>>32, stride), -180_000000), 180_000000)
	w.stamp = now
}

// throw makes a number from -reach to reach of the low half of dice.
func throw(dice uint64, reach int32) int32 {
	return int32(uint64(uint32(dice))*uint64(2*reach+1)>>32) - reach
}

// mix is the finalizer of splitmix64: neighbouring numbers get unlike results.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// appendIAMAT writes the client's report with its LF (C6 to C8).
func (w *walker) appendIAMAT(dst []byte, prefix string, client int) []byte {
	dst = append(dst, "IAMAT "...)
	dst = appendClient(dst, prefix, client)
	dst = append(dst, ' ')
	dst = appendDegrees(dst, w.lat)
	dst = appendDegrees(dst, w.lon)
	dst = append(dst, ' ')
	dst = AppendTime(dst, w.stamp)
	return append(dst, '\n')
}

func appendClient(dst []byte, prefix string, client int) []byte {
	return strconv.AppendInt(append(dst, prefix...), int64(client), 10)
}

// AppendTime appends a time in nanoseconds since 1970, not negative, as an IAMAT
// tells it: seconds with nine decimals (C8).
func AppendTime(dst []byte, ns int64) []byte {
	dst = strconv.AppendInt(dst, ns/1_000_000_000, 10)
	dst = append(dst, '.')
	return appendDigits(dst, uint64(ns%1_000_000_000), 9)
}

func appendDegrees(dst []byte, millionths int32) []byte {
	sign := byte('+')
	if millionths < 0 {
		sign, millionths = '-', -millionths
	}
	dst = append(dst, sign)
	dst = strconv.AppendInt(dst, int64(millionths/1_000_000), 10)
	dst = append(dst, '.')
	return appendDigits(dst, uint64(millionths%1_000_000), 6)
}

// appendDigits appends the last n decimal digits of x.
func appendDigits(dst []byte, x uint64, n int) []byte {
	end := len(dst) + n
	for range n {
		dst = append(dst, '0')
	}
	for i := end - 1; i >= end-n; i-- {
		dst[i] = byte('0' + x%10)
		x /= 10
	}
	return dst
}
