package cli

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// Widths of the columns of the timeline: what comes later must fit under what was printed.
const (
	minWho, maxWho   = 17, 32
	minWhat, maxWhat = 24, 44
)

// timelineWriter writes the entries of a timeline that it has not written yet.
type timelineWriter struct {
	*session

	last      int64
	day       string
	who, what int
}

// write prints the new entries and says how many there were.
func (w *timelineWriter) write(incident *v1alpha1.Incident) int {
	entries := incident.Status.Timeline
	for len(entries) > 0 && entries[0].Sequence <= w.last {
		entries = entries[1:]
	}
	if len(entries) == 0 {
		return 0
	}
	if first := entries[0].Sequence; first > w.last+1 {
		fmt.Fprintf(w.Out, "  (entries %d to %d were sealed into evidence of type Journal)\n", w.last+1, first-1)
	}
	w.who, w.what = max(w.who, minWho), max(w.what, minWhat)
	for i := range entries {
		w.who = min(max(w.who, utf8.RuneCountInString(actorName(entries[i].Actor, incident.Namespace))), maxWho)
		w.what = min(max(w.what, utf8.RuneCountInString(happened(&entries[i]))), maxWhat)
	}
	for i := range entries {
		w.writeEntry(&entries[i], incident.Namespace)
		w.last = entries[i].Sequence
	}
	return len(entries)
}

func (w *timelineWriter) writeEntry(entry *v1alpha1.TimelineEntry, namespace string) {
	when := entry.Time.In(w.location)
	if day := when.Format("2006-01-02 (MST)"); day != w.day {
		w.day = day
		fmt.Fprintln(w.Out, "  "+w.style.dim(day))
	}
	who, what := actorName(entry.Actor, namespace), happened(entry)
	prefix := "  " + when.Format("15:04:05") + "  "
	text := prefix + pad(who, w.who) + "  " + w.paintOutcome(entry.Outcome)(pad(what, w.what))
	details := entryDetails(entry)
	room := 0
	indent := len(prefix) + w.who + 2 + w.what + 2
	if w.terminal.width > 0 {
		room = w.terminal.width - indent
		if room < 30 {
			// A narrow terminal: the details go below.
			indent = len(prefix)
			room = max(w.terminal.width-indent, 20)
			fmt.Fprintln(w.Out, strings.TrimRight(text, " "))
			text = ""
		}
	}
	lines := wrap(details, room)
	for i, line := range lines {
		if i > 0 || text == "" {
			fmt.Fprintln(w.Out, strings.TrimRight(strings.Repeat(" ", indent)+line, " "))
			continue
		}
		fmt.Fprintln(w.Out, strings.TrimRight(text+"  "+line, " "))
	}
}

func (w *timelineWriter) paintOutcome(outcome string) paint {
	switch outcome {
	case "Failed", "Refused":
		return w.style.red
	case "Succeeded", "Accepted":
		return w.style.green
	default:
		return func(text string) string { return text }
	}
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(width-utf8.RuneCountInString(text), 0))
}

// actorName is short for the ServiceAccounts of the machinery. A person's name stands as
// it is, in quotes where it looks like the machinery's.
func actorName(actor, home string) string {
	const serviceAccount = "system:serviceaccount:"
	manager := serviceAccount + v1alpha1.SystemNamespace + ":" + v1alpha1.ManagerServiceAccount
	if actor == manager {
		return "firebreak:manager"
	}
	if rest, found := strings.CutPrefix(actor, serviceAccount); found {
		if name, found := strings.CutPrefix(rest, home+":"); found {
			return "sa:" + clean(name)
		}
		return "sa:" + clean(strings.Replace(rest, ":", "/", 1))
	}
	if strings.HasPrefix(actor, "sa:") || strings.HasPrefix(actor, "firebreak:") {
		return clean(strconv.Quote(actor))
	}
	return clean(actor)
}

func happened(entry *v1alpha1.TimelineEntry) string {
	text := clean(joined(" ", entry.Action, entry.Step))
	if entry.Outcome != "" && !strings.Contains(entry.Action, entry.Outcome) {
		text += ": " + clean(entry.Outcome)
	}
	return text
}

func entryDetails(entry *v1alpha1.TimelineEntry) string {
	text := entry.Message
	if entry.Resource != "" && !strings.Contains(text, entry.Resource) {
		text = joined(": ", entry.Resource, text)
	}
	if entry.Decision != "" {
		text = joined(" ", text, "["+entry.Decision+"]")
	}
	return text
}
