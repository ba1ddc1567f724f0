package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const maxDeferred = 10

// deferred selects the events that wait for a person.
var deferred = client.MatchingFields{"status.assessment.outcome": string(v1alpha1.OutcomeDeferred)}

type listFlags struct {
	allNamespaces, all bool
	output             string
}

func newListCommand(s *session) *cobra.Command {
	f := &listFlags{}
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List open incidents, and events that wait for a person",
		Long: `List open incidents, the worst first, and below them the events that no rule has
decided about: they wait for a person. With -o json or yaml only the incidents.`,
		Args: between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return s.list(cmd.Context(), f) },
	}
	cmd.Flags().BoolVarP(&f.allNamespaces, "all-namespaces", "A", false, "look in all namespaces")
	cmd.Flags().BoolVar(&f.all, "all", false, "closed incidents too")
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "wide, json, yaml or name")
	return cmd
}

// overview is everything `list` shows.
type overview struct {
	namespace string // empty means all
	all       bool
	wide      bool
	incidents []v1alpha1.Incident
	events    []v1alpha1.SecurityEvent
	plans     []v1alpha1.ResponsePlan
	unseen    map[string]*unseen // by namespace
}

func (s *session) list(ctx context.Context, f *listFlags) error {
	if err := checkOutput(f.output, outputWide, outputJSON, outputYAML, outputName); err != nil {
		return err
	}
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	o := overview{namespace: namespace, all: f.all, wide: f.output == outputWide}
	if f.allNamespaces {
		o.namespace = ""
	}
	incidents, err := s.listIncidents(ctx, o)
	if err != nil {
		return err
	}
	switch f.output {
	case outputJSON, outputYAML:
		incidents.SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("IncidentList"))
		for i := range incidents.Items {
			incidents.Items[i].SetGroupVersionKind(v1alpha1.SchemeGroupVersion.WithKind("Incident"))
		}
		return printObjects(s.Out, f.output, incidents)
	case outputName:
		for i := range incidents.Items {
			fmt.Fprintln(s.Out, "incident.firebreak.dev/"+incidents.Items[i].Name)
		}
		return nil
	}
	o.incidents = incidents.Items
	if err := s.listBeside(ctx, &o); err != nil {
		return err
	}
	s.printOverview(o)
	if len(o.incidents)+len(o.events) == 0 && o.namespace != "" {
		if hint := s.elsewhere(ctx, o.namespace); hint != "" {
			fmt.Fprintln(s.ErrOut, clean(hint))
		}
	}
	return nil
}

func (s *session) listIncidents(ctx context.Context, o overview) (*v1alpha1.IncidentList, error) {
	api, err := s.client()
	if err != nil {
		return nil, err
	}
	options := []client.ListOption{client.InNamespace(o.namespace)}
	if !o.all {
		open := fields.OneTermNotEqualSelector("status.phase", string(v1alpha1.PhaseClosed))
		options = append(options, client.MatchingFieldsSelector{Selector: open})
	}
	list := &v1alpha1.IncidentList{}
	if err := api.List(ctx, list, options...); err != nil {
		return nil, explain(err, "list the incidents "+where(o.namespace))
	}
	sortIncidents(list.Items)
	return list, nil
}

func where(namespace string) string {
	if namespace == "" {
		return "of all namespaces"
	}
	return "in the namespace " + namespace
}

// listBeside reads what is shown beside the incidents; who may not read it does without.
func (s *session) listBeside(ctx context.Context, o *overview) error {
	api, err := s.client()
	if err != nil {
		return err
	}
	events := &v1alpha1.SecurityEventList{}
	switch err := api.List(ctx, events, client.InNamespace(o.namespace), deferred); {
	case apierrors.IsForbidden(err):
		fmt.Fprintln(s.ErrOut, "Events that wait for a person are not shown: you are not permitted to list securityevents "+where(o.namespace)+".")
	case err != nil:
		return explain(err, "list the events "+where(o.namespace))
	}
	o.events = events.Items
	sortEvents(o.events)
	plans := &v1alpha1.ResponsePlanList{}
	if err := api.List(ctx, plans, client.InNamespace(o.namespace)); err == nil {
		o.plans = plans.Items
	}
	s.findUnseen(ctx, o)
	return nil
}

// sortEvents puts those first that have waited for too long, then the worst, of those the
// oldest. Drills come after what is live.
func sortEvents(events []v1alpha1.SecurityEvent) {
	slices.SortStableFunc(events, func(a, b v1alpha1.SecurityEvent) int {
		return cmp.Or(
			cmp.Compare(drillLast(a.Spec.Mode), drillLast(b.Spec.Mode)),
			cmp.Compare(overdueFirst(&a), overdueFirst(&b)),
			cmp.Compare(b.Spec.Severity.Rank(), a.Spec.Severity.Rank()),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			cmp.Compare(a.Name, b.Name),
		)
	})
}

func overdueFirst(event *v1alpha1.SecurityEvent) int {
	if overdue(event) {
		return 0
	}
	return 1
}

// overdue says that an event has waited for a person for too long.
func overdue(event *v1alpha1.SecurityEvent) bool {
	c := meta.FindStatusCondition(event.Status.Conditions, v1alpha1.ConditionAssessed)
	return c != nil && c.Reason == v1alpha1.ReasonAssessmentOverdue
}

// sortIncidents puts the worst first, of those the newest. Drills come after what is live.
func sortIncidents(incidents []v1alpha1.Incident) {
	slices.SortStableFunc(incidents, func(a, b v1alpha1.Incident) int {
		return cmp.Or(
			cmp.Compare(closedLast(&a), closedLast(&b)),
			cmp.Compare(drillLast(a.Spec.Mode), drillLast(b.Spec.Mode)),
			cmp.Compare(severityOf(&b).Rank(), severityOf(&a).Rank()),
			b.CreationTimestamp.Compare(a.CreationTimestamp.Time),
			cmp.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name),
		)
	})
}

func closedLast(incident *v1alpha1.Incident) int {
	if incident.Status.Phase == v1alpha1.PhaseClosed {
		return 1
	}
	return 0
}

func drillLast(mode v1alpha1.Mode) int {
	if mode == v1alpha1.ModeDrill {
		return 1
	}
	return 0
}

// severityOf is the severity in force; that of the start while nobody has looked.
func severityOf(incident *v1alpha1.Incident) v1alpha1.Severity {
	return cmp.Or(incident.Status.Severity, incident.Spec.Severity)
}

func (s *session) printOverview(o overview) {
	s.printUnseen(o)
	s.printPlans(o)
	if len(o.incidents) == 0 {
		which := "open incidents"
		if o.all {
			which = "incidents"
		}
		fmt.Fprintf(s.Out, "No %s %s.\n", which, where(o.namespace))
	} else {
		s.incidentTable(o).write(s.Out, s.style, s.terminal.width)
	}
	s.printDeferred(o)
}

// printPlans says what a responder must know before anything else.
func (s *session) printPlans(o overview) {
	said := false
	for i := range o.plans {
		plan := &o.plans[i]
		if c := meta.FindStatusCondition(plan.Status.Conditions, v1alpha1.ConditionAutomationStopped); c != nil && c.Status == "True" {
			fmt.Fprintf(s.Out, "%s %s\n", s.style.red("AUTOMATION IS STOPPED in "+plan.Namespace+":"), clean(c.Message))
			goOn := s.command(plan.Namespace, "resume")
			if c.Reason == v1alpha1.ReasonPausedByPlan {
				goOn = s.editPlan(plan.Namespace)
			}
			fmt.Fprintln(s.Out, "  When it may go on: "+goOn)
			said = true
		}
		if c := meta.FindStatusCondition(plan.Status.Conditions, v1alpha1.ConditionGuarded); c != nil && c.Status == "False" {
			fmt.Fprintf(s.Out, "%s %s\n", s.style.red("NO DECISION IS ACCEPTED in "+plan.Namespace+":"), clean(c.Message))
			said = true
		}
		if c := meta.FindStatusCondition(plan.Status.Conditions, v1alpha1.ConditionSourcesHeard); c != nil && c.Status == "False" {
			fmt.Fprintf(s.Out, "%s %s\n", s.style.red("A SOURCE IS SILENT in "+plan.Namespace+":"), clean(c.Message))
			said = true
		}
	}
	if said {
		fmt.Fprintln(s.Out)
	}
}

func (s *session) incidentTable(o overview) *table {
	t := &table{header: []string{"NAME", "SEV", "PHASE", "AWAITING", "DUE", "AGE"}}
	if o.namespace == "" {
		t.header = append([]string{"NAMESPACE"}, t.header...)
	}
	if o.wide {
		t.header = append(t.header, "PRIO", "CATEGORY", "EVENTS", "ASSIGNEE")
	}
	t.header = append(t.header, "TITLE")
	for i := range o.incidents {
		incident := &o.incidents[i]
		var row []cell
		if o.namespace == "" {
			row = append(row, plain(incident.Namespace))
		}
		row = append(row, plain(incident.Name), s.severityCell(severityOf(incident)), plain(cmp.Or(string(incident.Status.Phase), "-")))
		row = append(row, s.awaitingCells(incident)...)
		row = append(row, plain(s.age(incident.CreationTimestamp.Time)))
		if o.wide {
			row = append(row, plain(cmp.Or(string(incident.Status.Priority), "-")), plain(string(cmp.Or(incident.Status.Category, incident.Spec.Category))),
				plain(fmt.Sprint(incident.Status.EventCount)), plain(cmp.Or(clean(incident.Status.Assignee), "-")))
		}
		t.add(append(row, plain(marked(incident.Spec.Mode, incident.Spec.Title)))...)
	}
	return t
}

func (s *session) severityCell(severity v1alpha1.Severity) cell {
	c := plain(clean(string(severity)))
	switch severity {
	case v1alpha1.SeverityCritical:
		c.paint = s.style.red
	case v1alpha1.SeverityHigh:
		c.paint = s.style.yellow
	}
	return c
}

// awaitingCells say what a person must do first, and until when.
func (s *session) awaitingCells(incident *v1alpha1.Incident) []cell {
	awaiting := incident.Status.Awaiting
	if len(awaiting) == 0 {
		return []cell{plain("-"), plain("-")}
	}
	first := awaiting[0]
	text := strings.TrimSpace(string(first.Type) + " " + clean(first.Step))
	if len(awaiting) > 1 {
		text += fmt.Sprintf(" +%d", len(awaiting)-1)
	}
	due := plain(cmp.Or(s.due(first.DueTime), "-"))
	if s.late(first.DueTime) {
		due.paint = s.style.red
	}
	return []cell{{text, s.style.bold}, due}
}

// whyCell says why an event waits, and that it has for too long.
func (s *session) whyCell(event *v1alpha1.SecurityEvent) cell {
	why := plain(clean(event.Status.Assessment.Reason))
	if overdue(event) {
		why.text, why.paint = "OVERDUE "+why.text, s.style.red
	}
	return why
}

func (s *session) printDeferred(o overview) {
	if len(o.events) == 0 {
		return
	}
	verb := "wait"
	if len(o.events) == 1 {
		verb = "waits"
	}
	fmt.Fprintf(s.Out, "\n%s %s for a person to decide:\n", plural(len(o.events), "event"), verb)
	t := &table{header: []string{"EVENT", "SEV", "AGE", "COUNT", "WHY", "TITLE"}}
	if o.namespace == "" {
		t.header = append([]string{"NAMESPACE"}, t.header...)
	}
	for i := range o.events[:min(len(o.events), maxDeferred)] {
		event := &o.events[i]
		var row []cell
		if o.namespace == "" {
			row = append(row, plain(event.Namespace))
		}
		t.add(append(row, plain(event.Name), s.severityCell(event.Spec.Severity), plain(s.age(event.CreationTimestamp.Time)),
			plain(fmt.Sprint(max(event.Status.Occurrences, 1))), s.whyCell(event), plain(marked(event.Spec.Mode, event.Spec.Title)))...)
	}
	t.write(s.Out, s.style, s.terminal.width)
	namespace := o.namespace
	if namespace == "" {
		namespace = o.events[0].Namespace
	}
	if more := len(o.events) - maxDeferred; more > 0 {
		late := 0
		for i := range o.events[maxDeferred:] {
			late += 1 - overdueFirst(&o.events[maxDeferred+i])
		}
		text := ""
		if late > 0 {
			text = s.style.red(fmt.Sprintf(", %d of them OVERDUE", late))
		}
		fmt.Fprintf(s.Out, "... and %d more%s: kubectl get securityevents -n %s%s --field-selector status.assessment.outcome=Deferred\n", more, text, namespace, s.clusterFlags())
	}
	fmt.Fprintln(s.Out, "Decide:  "+s.command(namespace, "promote", "EVENT"))
	fmt.Fprintln(s.Out, "    or:  "+s.command(namespace, "dismiss", "EVENT", `--reason "..."`))
}
