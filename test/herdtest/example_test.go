package herdtest_test

import (
	"context"
	"fmt"
	"time"

	"herd/edge/client"
	"herd/test/herdtest"
)

// Open a herd for all tests of a package in TestMain.
func ExampleOpen() {
	ctx := context.Background()
	h, err := herdtest.Open(ctx, herdtest.Options{Topology: "Clark-Jaquez"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Close()

	c, err := client.New(client.Config{Addrs: h.Addrs("Clark", "Jaquez")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	first, _ := c.IAMAT(ctx, "kiwi", "+34.068930-118.445127", time.Now())
	if err := h.Stop("Clark"); err != nil {
		fmt.Println(err)
	}
	second, _ := c.IAMAT(ctx, "kiwi", "+34.068930-118.445127", time.Now())
	fmt.Println(first.Edge, second.Edge)
	// Output: Clark Jaquez
}

// Judge compares the positions that edges acknowledged with what the edges hold at the end.
func ExampleJudge() {
	at := time.Unix(1621464827, 0)
	tracks := []herdtest.Track{{
		ID:   "kiwi",
		Sent: []herdtest.Update{{Text: "kiwi +34.1-118.4 1621464827.0", At: at}},
		Got:  []herdtest.Reply{{Line: "AT Clark +0.100000000 kiwi +34.1-118.4 1621464827.0", At: at.Add(time.Second)}},
	}}
	v := herdtest.Judge(tracks, []herdtest.Holding{
		{Edge: "Clark", Lines: []string{"AT Clark +0.100000000 kiwi +34.1-118.4 1621464827.0"}},
		{Edge: "Jaquez", Lines: []string{""}},
	}, 0)
	fmt.Println(v)
	fmt.Println(v.Lost[0])
	// Output:
	// of 1 ids 1 are lost, 0 are wrong, 1 differ, 0 are overdue
	// kiwi was answered "AT Clark +0.100000000 kiwi +34.1-118.4 1621464827.0"; Jaquez holds nothing
}
