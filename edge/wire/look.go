package wire

var (
	errCellsForm = &SyntaxError{"L2", "not two corners of a box and the most clients"}
	errCellsMost = &SyntaxError{"L2", "the most clients is not 0 to 500"}
)

// MaxCellsClients is the highest number of single clients that may be asked for with a box.
const MaxCellsClients = 500

// A CELLS is a question about a box: who is in it, or how many where they are more than Most.
type CELLS struct {
	SW, NE Point
	Most   int
}

// ParseClient parses a client's id that stands alone (C6), with white space about it as C2 has it.
func ParseClient(args []byte) (client []byte, err error) {
	client, rest := Cut(args)
	if more, _ := Cut(rest); len(more) > 0 {
		return nil, errTooMany
	}
	return client, checkClient(client)
}

// ParseCELLS parses two locations, the south-west and the north-east corner of a box as L2 has
// it, and the number of clients up to which each is wanted: 0 to 500, and 200 where it is left out.
func ParseCELLS(args []byte) (m CELLS, err error) {
	sw, rest := Cut(args)
	ne, rest := Cut(rest)
	most, rest := Cut(rest)
	if more, _ := Cut(rest); len(more) > 0 || len(ne) == 0 {
		return m, errCellsForm
	}
	if m.SW, err = ParsePoint(sw); err != nil {
		return m, err
	}
	if m.NE, err = ParsePoint(ne); err != nil {
		return m, err
	}
	if m.SW.Lat > m.NE.Lat {
		return m, errBoxTurned
	}
	m.Most = 200
	if len(most) > 0 {
		n, end := number(most, 0, 3)
		if end != len(most) || n > MaxCellsClients {
			return m, errCellsMost
		}
		m.Most = int(n)
	}
	return m, nil
}
