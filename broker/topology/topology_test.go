package topology_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"herd/broker/topology"
)

func ExampleParse() {
	herd, err := topology.Parse(topology.Default)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, edge := range herd.Edges() {
		fmt.Println(edge, herd.Neighbours(edge))
	}
	// Output:
	// Bernard [Jaquez Johnson Juzang]
	// Clark [Jaquez Juzang]
	// Jaquez [Bernard Clark]
	// Johnson [Bernard Juzang]
	// Juzang [Bernard Clark Johnson]
}

func ExampleParse_problems() {
	_, err := topology.Parse("Clark-Clark,Bernard-Juzang,Juzang-Bernard,Jaquez-John son,")
	fmt.Println(err)
	// Output:
	// link "Clark-Clark" joins an edge to itself
	// link "Juzang-Bernard" is repeated
	// item 5 is empty
	// edge name "John son" has characters other than letters, digits and _
	// no path from Bernard to Jaquez, John son
}

func TestGoodTopologies(t *testing.T) {
	long := strings.Repeat("x", topology.MaxName)
	for _, test := range []struct {
		name, text, canonical string
		edges                 []string
		links                 [][2]string
	}{
		{"one link", "A-B", "A-B", []string{"A", "B"}, [][2]string{{"A", "B"}}},
		{"a lone edge", "Clark", "Clark", []string{"Clark"}, nil},
		{"a lone edge in white space", " Clark\n", "Clark", []string{"Clark"}, nil},
		{"any order", "C-B,B-A", "A-B,B-C", []string{"A", "B", "C"}, [][2]string{{"A", "B"}, {"B", "C"}}},
		{"white space around names and items", "\tB - A ,\n C-B ", "A-B,B-C", []string{"A", "B", "C"}, [][2]string{{"A", "B"}, {"B", "C"}}},
		{"a ring", "A-B,B-C,C-A", "A-B,A-C,B-C", []string{"A", "B", "C"}, [][2]string{{"A", "B"}, {"A", "C"}, {"B", "C"}}},
		{"case parts names", "a-A", "A-a", []string{"A", "a"}, [][2]string{{"A", "a"}}},
		{"every kind of byte, longest name", "_9z-" + long, "_9z-" + long, []string{"_9z", long}, [][2]string{{"_9z", long}}},
		{"the default herd", topology.Default,
			"Bernard-Jaquez,Bernard-Johnson,Bernard-Juzang,Clark-Jaquez,Clark-Juzang,Johnson-Juzang",
			[]string{"Bernard", "Clark", "Jaquez", "Johnson", "Juzang"},
			[][2]string{{"Bernard", "Jaquez"}, {"Bernard", "Johnson"}, {"Bernard", "Juzang"}, {"Clark", "Jaquez"}, {"Clark", "Juzang"}, {"Johnson", "Juzang"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			g, err := topology.Parse(test.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := g.String(); got != test.canonical {
				t.Errorf("canonical text is %q, want %q", got, test.canonical)
			}
			if got := g.Edges(); !slices.Equal(got, test.edges) {
				t.Errorf("edges are %q, want %q", got, test.edges)
			}
			if got := g.Links(); !slices.Equal(got, test.links) {
				t.Errorf("links are %q, want %q", got, test.links)
			}
		})
	}
}

func TestEveryProblemIsReported(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string // one per line
	}{
		{"nothing", "", []string{"no edges in the topology"}},
		{"white space alone", " \n", []string{"no edges in the topology"}},
		{"a comma alone", ",", []string{"item 1 is empty", "item 2 is empty"}},
		{"an empty item", "A-B,,B-C", []string{"item 2 is empty"}},
		{"a comma at the end", "A-B,", []string{"item 2 is empty"}},
		{"a self-link", "A-B,A-A", []string{`link "A-A" joins an edge to itself`}},
		{"a self-link alone", "A-A", []string{`link "A-A" joins an edge to itself`}},
		{"a repeated link", "A-B,A-B", []string{`link "A-B" is repeated`}},
		{"a repeated link, the other way", "A-B,B - A", []string{`link "B - A" is repeated`}},
		{"a name beside links", "A-B,A,C", []string{
			`"A" is not a link: one edge's name must be the whole topology`,
			`"C" is not a link: one edge's name must be the whole topology`}},
		{"a link with one end", "A-,-B,-", []string{`link "A-" lacks a name`, `link "-B" lacks a name`, `link "-" lacks a name`}},
		{"a bad lone name", "A.B", []string{`edge name "A.B" has characters other than letters, digits and _`}},
		{"letters of other alphabets", "Жук-A", []string{`edge name "Жук" has characters other than letters, digits and _`}},
		{"a name too long", "A-" + strings.Repeat("b", 33), []string{`edge name "` + strings.Repeat("b", 33) + `" is longer than 32 bytes`}},
		{"a bad name is reported once, and still joins", "A-x!,x!-B,B-C", []string{`edge name "x!" has characters other than letters, digits and _`}},
		{"a chain is no link", "A-B-C", []string{`edge name "B-C" has characters other than letters, digits and _`}},
		{"two herds", "A-B,D-C", []string{"no path from A to C, D"}},
		{"all at once", "A-A,B-C,C-B,*-A,", []string{
			`link "A-A" joins an edge to itself`, `link "C-B" is repeated`, "item 5 is empty",
			`edge name "*" has characters other than letters, digits and _`, "no path from * to B, C"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			g, err := topology.Parse(test.text)
			if err == nil {
				t.Fatalf("accepted as %q", g)
			}
			if g != nil {
				t.Errorf("a graph beside the error: %q", g)
			}
			if got := strings.Split(err.Error(), "\n"); !slices.Equal(got, test.want) {
				t.Errorf("problems:\n%q\nwant:\n%q", got, test.want)
			}
		})
	}
}

func TestListsAreTheCallers(t *testing.T) {
	g, err := topology.Parse("A-B,B-C")
	if err != nil {
		t.Fatal(err)
	}
	want := g.String()
	g.Neighbours("B")[0] = "Z"
	g.Links()[0] = [2]string{"Y", "Z"}
	g.Edges()[0] = "Z"
	if got := g.String(); got != want {
		t.Errorf("the graph became %q", got)
	}
}

func TestStrangersHaveNoNeighbours(t *testing.T) {
	g, err := topology.Parse("A-B")
	if err != nil {
		t.Fatal(err)
	}
	if g.Has("C") || g.Has("a") || g.Has("") || len(g.Neighbours("C")) > 0 {
		t.Error("an edge that nobody named is in the graph")
	}
	if !g.Has("A") || !g.Has("B") {
		t.Error("an edge that was named is not in the graph")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "Clark", topology.Default, "A-B,B-A", " a - b ,", "A-A", "A-B,C-D", "A-B-C", "-", "x!-A,A-y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		g, err := topology.Parse(text)
		if err != nil {
			return
		}
		again, err := topology.Parse(g.String())
		if err != nil {
			t.Fatalf("%q became %q, which is refused: %v", text, g, err)
		}
		if !reflect.DeepEqual(g, again) {
			t.Fatalf("%q became %v, then %v", text, g, again)
		}
		for _, a := range g.Edges() {
			if err := topology.CheckName(a); err != nil {
				t.Error(err)
			}
			for _, b := range g.Neighbours(a) {
				if a == b || !slices.Contains(g.Neighbours(b), a) {
					t.Errorf("%s has the neighbour %s, not the other way round", a, b)
				}
			}
		}
	})
}
