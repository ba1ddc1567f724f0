package bench

import (
	"fmt"
	"slices"
	"time"
)

// Goals of the intake, as shares and bytes.
const (
	goalIntake   = 0.6
	goalMemory   = 300 << 20
	goalPerEvent = 4 << 10
	// goalGrowth is up to which factor a cost counts as the same.
	goalGrowth = 1.25
)

// intakeReport is what TestIntake has measured.
type intakeReport struct {
	before, after rates
	alone, beside taken
	sizes         []sized
	restarted     sized
}

// text is the table.
func (r *intakeReport) text() string {
	table := &report{base: r.before.raw, after: r.after.raw}
	configMaps, events := (r.before.rate+r.after.rate)/2, (r.before.events+r.after.events)/2
	table.row("ConfigMaps created", fmt.Sprintf("%.0f/s", configMaps), fmt.Sprintf("%.0f/s before, %.0f/s after", r.before.rate, r.after.rate), "", "")
	table.row("events created, bare", fmt.Sprintf("%.0f/s", events), fmt.Sprintf("%.0f/s before, %.0f/s after", r.before.events, r.after.events), "", "")
	for _, one := range []struct {
		name string
		taken
	}{{"alerts into events", r.alone}, {"  beside a manager that assesses them", r.beside}} {
		if one.alerts == 0 {
			continue // it is measured later
		}
		rate := one.rate()
		table.row(one.name, fmt.Sprintf("%.0f/s", rate), fmt.Sprintf("%.2f of bare events", rate/events), "≥ 0.60", verdict(rate/events >= goalIntake))
		table.row("", fmt.Sprintf("%d in %.1f s, answered in %.1f s", one.alerts, one.took.Seconds(), one.answered.Seconds()), fmt.Sprintf("%.2f of ConfigMaps", rate/configMaps), "≥ 0.60", verdict(rate/configMaps >= goalIntake))
		table.row("", fmt.Sprintf("%d by way of the spool", one.spooled), "", "", "")
		table.notes = append(table.notes, "processor time of each: "+one.name+": "+one.cpu)
	}
	table.notes = append(table.notes, "processor time of each ConfigMap: "+r.before.raw.cpu, "processor time of each bare event: "+r.before.cpu)
	if len(r.sizes) > 0 {
		r.growth(table)
	}
	return table.text()
}

func (r *intakeReport) growth(table *report) {
	few, many := r.sizes[0], r.sizes[len(r.sizes)-1]
	for _, size := range r.sizes {
		name := fmt.Sprintf("beside %d events", size.events)
		table.row(name, fmt.Sprintf("%.0f alerts/s assessed", float64(len(size.alert.each))/size.alert.took.Seconds()),
			fmt.Sprintf("answered p50 %s, p99 %s", milliseconds(percentile(size.alert.each, 50)), milliseconds(percentile(size.alert.each, 99))), "", "")
		table.row("  processor time of an alert", milliseconds(time.Duration(size.alert.cost())), fmt.Sprintf("%.1f ConfigMaps", size.growth()), "", "")
		table.notes = append(table.notes, "processor time of each alert "+name+": "+size.alert.text(), "processor time of each ConfigMap "+name+": "+size.raw.text())
	}
	growth := many.growth() / few.growth()
	table.row("  growth, in ConfigMaps", fmt.Sprintf("%.2f times", growth), fmt.Sprintf("%.2f in time", many.alert.cost()/few.alert.cost()), "flat", verdict(growth <= goalGrowth))
	for i, size := range append(slices.Clone(r.sizes), r.restarted) {
		both, what := size.manager.resident+size.receiver.resident, fmt.Sprintf("memory of both, %d events", size.events)
		if i == len(r.sizes) {
			what += ", manager restarted"
		}
		table.row(what, mebibytes(both), fmt.Sprintf("manager %s, receiver %s", mebibytes(size.manager.resident), mebibytes(size.receiver.resident)),
			"≤ 300 MiB", verdict(both <= goalMemory))
		table.notes = append(table.notes, fmt.Sprintf("%s: manager %s; receiver %s", what, size.manager.text(), size.receiver.text()))
	}
	more := (many.manager.live - few.manager.live) / float64(many.events-few.events)
	table.row("memory of an event", fmt.Sprintf("%.0f bytes alive", more), fmt.Sprintf("its own %d", many.bytes), "≤ 4 KiB more", verdict(more-float64(many.bytes) <= goalPerEvent))
}

func (m memory) text() string {
	return fmt.Sprintf("%s resident, at worst %s; heap %s, alive in it %s", mebibytes(m.resident), mebibytes(m.worst), mebibytes(m.heap), mebibytes(m.live))
}

func mebibytes(bytes float64) string { return fmt.Sprintf("%.0f MiB", bytes/(1<<20)) }

func (s spent) text() string {
	return fmt.Sprintf("%s; collecting garbage takes kube-apiserver %s by its own estimate", s.cpu.each(len(s.each)), milliseconds(s.collected/time.Duration(len(s.each))))
}
