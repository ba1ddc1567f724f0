package cli

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// cell is one field of a table. Its text must be clean.
type cell struct {
	text  string
	paint paint
}

func plain(text string) cell { return cell{text: text} }

// minLast is what the last column keeps on a line that is too narrow.
const minLast = 24

// table is written with aligned columns; the last one takes what is left of the line.
type table struct {
	indent string
	header []string
	rows   [][]cell
}

func (t *table) add(cells ...cell) { t.rows = append(t.rows, cells) }

func (t *table) widths() []int {
	columns := len(t.header)
	for _, row := range t.rows {
		columns = max(columns, len(row))
	}
	widths := make([]int, columns)
	for i, title := range t.header {
		widths[i] = len(title)
	}
	for _, row := range t.rows {
		for i, c := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	return widths
}

func (t *table) write(w io.Writer, st style, width int) {
	widths := t.widths()
	if len(t.header) > 0 {
		header := make([]cell, len(t.header))
		for i, title := range t.header {
			header[i] = cell{title, st.dim}
		}
		t.writeRow(w, header, widths, width)
	}
	for _, row := range t.rows {
		t.writeRow(w, row, widths, width)
	}
}

func (t *table) writeRow(w io.Writer, row []cell, widths []int, width int) {
	last := len(row) - 1
	for last > 0 && row[last].text == "" {
		last--
	}
	var b strings.Builder
	b.WriteString(t.indent)
	used := len(t.indent)
	for i := 0; i <= last; i++ {
		text := row[i].text
		if i == len(widths)-1 && width > 0 {
			text = shorten(text, max(width-used, minLast))
		}
		pad := ""
		if i < last {
			pad = strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+2)
		}
		used += widths[i] + 2
		if row[i].paint != nil {
			text = row[i].paint(text)
		}
		b.WriteString(text + pad)
	}
	fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
}
