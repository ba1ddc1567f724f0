package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// view shows one incident.
type view struct {
	*session

	incident *v1alpha1.Incident
	timeline *timelineWriter
}

func (s *session) newView(incident *v1alpha1.Incident) *view {
	return &view{session: s, incident: incident, timeline: &timelineWriter{session: s}}
}

// print shows all of it; what a person must do comes last, where the eye is.
func (v *view) print(evidence []v1alpha1.Evidence, missing string) {
	v.printHeader()
	v.printResources()
	v.printSteps()
	v.section("TIMELINE")
	if v.timeline.write(v.incident) == 0 {
		fmt.Fprintln(v.Out, "  nothing yet")
	}
	v.printEvidence(evidence, missing)
	v.printAwaiting()
}

func (v *view) section(title string) { fmt.Fprintf(v.Out, "\n%s\n", v.style.bold(title)) }

func (v *view) printHeader() {
	status, spec := &v.incident.Status, &v.incident.Spec
	fmt.Fprintf(v.Out, "%s  %s\n\n", v.incident.Name, v.style.bold(marked(spec.Mode, spec.Title)))
	facts := &table{indent: "  "}
	fact := func(name, value string, p paint) {
		if value != "" {
			facts.add(cell{name, v.style.dim}, cell{clean(value), p})
		}
	}
	severity := v.severityCell(severityOf(v.incident))
	fact("Severity", joined(", ", severity.text, string(status.Priority), string(cmp.Or(status.Category, spec.Category)), "TLP "+string(cmp.Or(spec.TLP, v1alpha1.TLPAmber))), severity.paint)
	fact("Impact", impact(spec.Impact), nil)
	if spec.Mode == v1alpha1.ModeDrill {
		fact("Mode", "a drill: every write is only tried, and nothing is sent", v.style.yellow)
	}
	opened := fmt.Sprintf("%s (%s ago)", v.at(v.incident.CreationTimestamp.Time), v.age(v.incident.CreationTimestamp.Time))
	if status.EventCount > 0 {
		opened += ", seen " + plural(int(status.EventCount), "time")
	}
	fact("Opened", opened, nil)
	fact("Related to", spec.RelatedTo.Name, nil)
	fact("Duplicate of", duplicateOf(&status.DuplicateOf), v.style.yellow)
	fact("Duplicates", duplicatesOf(status.Duplicates), nil)
	fact("Rule", spec.Rule, nil)
	assignee := cell{cmp.Or(status.Assignee, "nobody yet"), nil}
	if status.Assignee == "" && status.Phase != v1alpha1.PhaseClosed {
		assignee.paint = v.style.yellow
	}
	fact("Assignee", assignee.text, assignee.paint)
	fact("Playbook", v.playbook(), nil)
	if status.PausedBy != "" {
		fact("Automation", "paused by "+status.PausedBy, v.style.red)
	}
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStalled); c != nil && c.Status == "True" {
		fact("Stalled", c.Reason+": "+c.Message, v.style.red)
	}
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionTimelineSealed); c != nil && c.Status == "False" {
		fact("Not sealed", c.Message, v.style.red)
	}
	facts.add(cell{"Phase", v.style.dim}, cell{text: v.phases()})
	if status.Resolution != "" {
		fact("Resolution", string(status.Resolution), nil)
	}
	facts.write(v.Out, v.style, 0)
}

// duplicateOf says which incident goes on, and what is waited for.
func duplicateOf(of *v1alpha1.IncidentOriginal) string {
	if of.Name == "" {
		return ""
	}
	text := of.Name + ", by " + of.By
	if of.TakenUpTime == nil {
		text += " (not taken up by it yet)"
	}
	return text
}

func duplicatesOf(duplicates []v1alpha1.IncidentDuplicate) string {
	names := make([]string, len(duplicates))
	for i := range duplicates {
		names[i] = duplicates[i].Name
	}
	return strings.Join(names, ", ")
}

func (v *view) playbook() string {
	status, spec := &v.incident.Status, &v.incident.Spec
	switch {
	case status.Playbook.Name != "":
		mode := ""
		if status.Mode != "" && status.Mode != v1alpha1.ModeEnforce {
			mode = ", mode " + string(status.Mode)
		}
		return fmt.Sprintf("%s (generation %d), acting as %s%s", status.Playbook.Name, status.Playbook.Generation, status.Playbook.ServiceAccountName, mode)
	case spec.PlaybookRef.Name != "":
		return spec.PlaybookRef.Name + " (not pinned)"
	default:
		return "none: people answer by hand"
	}
}

// phases says what is done, now and later.
func (v *view) phases() string {
	now := v.incident.Status.Phase.Rank()
	if now == 0 {
		return "the manager has not looked at it yet"
	}
	var all []string
	for _, phase := range phasesInOrder {
		switch {
		case phase.Rank() < now || phase == v1alpha1.PhaseClosed && phase.Rank() == now:
			all = append(all, v.style.green("[x] "+string(phase)))
		case phase.Rank() == now:
			all = append(all, v.style.bold("[>] "+string(phase)))
		default:
			all = append(all, v.style.dim("[ ] "+string(phase)))
		}
	}
	return strings.Join(all, "  ")
}

var phasesInOrder = []v1alpha1.Phase{
	v1alpha1.PhaseAssessment, v1alpha1.PhaseContainment, v1alpha1.PhaseEradication,
	v1alpha1.PhaseRecovery, v1alpha1.PhaseReview, v1alpha1.PhaseClosed,
}

func impact(i v1alpha1.Impact) string {
	var parts []string
	for _, part := range []struct {
		on    string
		level v1alpha1.ImpactLevel
	}{{"confidentiality", i.Confidentiality}, {"integrity", i.Integrity}, {"availability", i.Availability}} {
		if part.level != "" {
			parts = append(parts, part.on+" "+string(part.level))
		}
	}
	return strings.Join(parts, ", ")
}

func joined(separator string, parts ...string) string {
	var filled []string
	for _, part := range parts {
		if strings.TrimSpace(part) != "" {
			filled = append(filled, part)
		}
	}
	return strings.Join(filled, separator)
}

func (v *view) printResources() {
	status, spec := &v.incident.Status, &v.incident.Spec
	if len(status.Resources)+len(spec.Resources)+len(status.Assets)+len(spec.Assets) == 0 {
		return
	}
	v.section("RESOURCES")
	t := &table{indent: "  "}
	for i := range status.Resources {
		resource := &status.Resources[i]
		state := cell{text: cmp.Or(string(resource.State), "not looked up")}
		if resource.State == v1alpha1.ResourceReplaced || resource.State == v1alpha1.ResourceUnreadable {
			state.paint = v.style.yellow
		}
		workload := ""
		if resource.Workload.Name != "" {
			workload = "of " + resource.Workload.Kind + " " + resource.Workload.Name
		}
		note := resource.Message
		switch {
		case resource.Hold != "" && resource.ApprovedBy != "":
			note = joined("; ", "held ("+resource.Hold+"), approved by "+resource.ApprovedBy, note)
		case resource.Hold != "":
			note = joined("; ", "HELD until approved: "+resource.Hold, note)
		}
		t.add(plain(clean(referenceName(resource.Kind, resource.Namespace, resource.Name))), state, plain(clean(workload)), plain(clean(note)))
	}
	if len(status.Resources) == 0 {
		for _, resource := range spec.Resources {
			t.add(plain(clean(referenceName(resource.Kind, resource.Namespace, resource.Name))), plain("not looked up"))
		}
	}
	v.addAssets(t)
	t.write(v.Out, v.style, 0)
	if status.OmittedResources > 0 {
		fmt.Fprintf(v.Out, "  ... and %d more than are kept here\n", status.OmittedResources)
	}
	if status.OmittedAssets > 0 {
		fmt.Fprintf(v.Out, "  ... and %d more outside the cluster than are kept here\n", status.OmittedAssets)
	}
}

// addAssets lists what is outside the cluster: what the incident was opened about, as long as
// the manager has not said more.
func (v *view) addAssets(t *table) {
	add := func(asset *v1alpha1.Asset, state string) {
		owner := ""
		if asset.Owner != "" {
			owner = "of " + asset.Owner
		}
		t.add(plain(clean(string(asset.Type)+" "+asset.Identifier)), plain(state), plain(clean(owner)))
	}
	assets := v.incident.Status.Assets
	for i := range assets {
		add(&assets[i].Asset, cmp.Or(string(assets[i].State), "outside the cluster"))
	}
	if len(assets) == 0 {
		for i := range v.incident.Spec.Assets {
			add(&v.incident.Spec.Assets[i], "outside the cluster")
		}
	}
}

func referenceName(kind, namespace, name string) string {
	if namespace == "" {
		return kind + " " + name
	}
	return kind + " " + namespace + "/" + name
}

func targetName(target v1alpha1.StepTarget) string {
	return referenceName(target.Kind, target.Namespace, target.Name)
}

func (v *view) printEvidence(evidence []v1alpha1.Evidence, missing string) {
	if len(evidence) == 0 && missing == "" {
		return
	}
	v.section("EVIDENCE")
	if missing != "" {
		fmt.Fprintln(v.Out, "  not shown: "+clean(missing))
		return
	}
	t := &table{indent: "  "}
	for i := range evidence {
		e := &evidence[i]
		about := ""
		switch {
		case e.Spec.Resource != nil:
			about = referenceName(e.Spec.Resource.Kind, e.Spec.Resource.Namespace, e.Spec.Resource.Name)
		case e.Spec.Journal != nil:
			about = fmt.Sprintf("entries %d to %d", e.Spec.Journal.FirstSequence, e.Spec.Journal.LastSequence)
		}
		size := "?"
		if e.Spec.SizeBytes != nil {
			size = bytesText(*e.Spec.SizeBytes)
		}
		stored := cell{"not stored yet", v.style.yellow}
		if c := meta.FindStatusCondition(e.Status.Conditions, v1alpha1.ConditionStored); c != nil {
			switch c.Status {
			case "True":
				stored = plain("stored")
			case "False":
				stored = cell{clean(c.Reason), v.style.red}
			}
		}
		t.add(plain(e.Name), plain(string(e.Spec.Type)), plain(size), stored, plain(clean(about)))
	}
	t.write(v.Out, v.style, 0)
}

func bytesText(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	default:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
}

func (v *view) printAwaiting() {
	awaiting := v.incident.Status.Awaiting
	if len(awaiting) == 0 {
		fmt.Fprintln(v.Out)
		if v.incident.Status.Phase == v1alpha1.PhaseClosed {
			fmt.Fprintf(v.Out, "Closed as %s.\n", clean(string(v.incident.Status.Resolution)))
		} else {
			fmt.Fprintln(v.Out, "Nothing waits for a person.")
		}
		return
	}
	v.section("WAITING FOR A PERSON")
	for i := range awaiting {
		v.writeAwaiting(v.Out, &awaiting[i])
	}
}

// writeAwaiting says what a person must do, and the line to type.
func (v *view) writeAwaiting(w io.Writer, a *v1alpha1.Awaiting) {
	title := joined(" ", clean(string(a.Type)), clean(a.Step))
	role := ""
	if a.Role != "" {
		role = "for the role " + clean(a.Role)
	}
	details := joined(", ", "for "+v.age(a.SinceTime.Time), v.dueText(a.DueTime), role)
	fmt.Fprintln(w, v.style.yellow("  >> "+title)+" ("+details+")")
	// The bar shows what is quoted, so that a message cannot pass for the line to type.
	for _, text := range wrap(a.Message, max(v.terminal.width-7, 0)) {
		fmt.Fprintln(w, "     | "+text)
	}
	fmt.Fprintln(w, "     Type: "+v.style.bold(clean(a.Command)))
}
