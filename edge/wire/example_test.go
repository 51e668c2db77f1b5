package wire_test

import (
	"errors"
	"fmt"

	"herd/edge/wire"
)

func ExampleCut() {
	verb, args := wire.Cut([]byte("IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503\r\n"))
	client, _ := wire.Cut(args)
	fmt.Printf("%s of %s\n", verb, client)
	// Output: IAMAT of kiwi.cs.ucla.edu
}

func ExampleParseIAMAT() {
	m, err := wire.ParseIAMAT([]byte(" kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	const received = 1621464828_223371889 // ns
	fmt.Printf("%s", m.AppendAT(nil, "Clark", received))
	// Output: AT Clark +0.263873386 kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503
}

func ExampleParseIAMAT_refused() {
	_, err := wire.ParseIAMAT([]byte(" kiwi.cs.ucla.edu +90.0000001-118.445127 1621464827.959498503\n"))
	fmt.Println(err)
	var syntax *wire.SyntaxError
	fmt.Println(errors.As(err, &syntax) && syntax.Rule == "C7")
	// Output:
	// C7: latitude beyond 90 degrees
	// true
}

func ExampleParseWHATSAT() {
	q, err := wire.ParseWHATSAT([]byte(" kiwi.cs.ucla.edu 9.5 5\n"))
	fmt.Printf("%d places within %v km of %s, %v\n", q.Max, q.Radius, q.Client, err)
	// Output: 5 places within 9.5 km of kiwi.cs.ucla.edu, <nil>
}

func ExampleParseAT() {
	m, err := wire.ParseAT([]byte("AT Clark +0.263873386 kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503"))
	fmt.Printf("%s told %s at %d, %v\n", m.Client, m.Edge, m.Receipt, err)
	// Output: kiwi.cs.ucla.edu told Clark at 1621464828223371889, <nil>
}

func ExampleParseLocation() {
	fmt.Println(wire.ParseLocation([]byte("+34.068930-118.445127")))
	// Output: 34.06893 -118.445127 <nil>
}

func ExampleAppendSkew() {
	fmt.Printf("%s %s\n", wire.AppendSkew(nil, 0), wire.AppendSkew(nil, -12_000000001))
	// Output: +0.000000000 -12.000000001
}
