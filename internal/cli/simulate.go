package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/manifest"
	"github.com/firebreak-dev/firebreak/internal/receiver"
	"github.com/firebreak-dev/firebreak/internal/simulate"
)

const (
	simulateLong = `Say what Firebreak would do about an event by the policies, playbooks and plan in the manifests;
no cluster is needed.

It shows which rule decides and why each one before it does not match, the incident that would
be opened, and what each step of its playbook would do. What takes a cluster to know is said so.
The event is a SecurityEvent, or with --format what a sender would post to the receiver:

  kubectl firebreak simulate --event event.yaml --manifests clusters/prod/security --expect Promoted
  kubectl firebreak simulate --event alert.json --format falco \
    --submitted-by system:serviceaccount:falco:falco -n security --manifests .

Exit code: 0 done, and as expected; 1 not as expected; 2 could not be told.`

	maxEventFile = 4 << 20
)

type simulateFlags struct {
	event, format, formats, submittedBy, workload, expect, output string
	manifests                                                     []string
}

var expectations = []v1alpha1.AssessmentOutcome{v1alpha1.OutcomePromoted, v1alpha1.OutcomeDismissed, v1alpha1.OutcomeDeferred}

func newSimulateCommand(s *session) *cobra.Command {
	f := &simulateFlags{}
	cmd := &cobra.Command{
		Use:   "simulate --event FILE --manifests PATH [PATH...]",
		Short: "Say what would be done about an event",
		Long:  simulateLong,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.manifests = append(f.manifests, args...)
			return s.simulate(cmd.Context(), f)
		},
	}
	cmd.Flags().StringVar(&f.event, "event", "", "file with the event; '-' is the standard input")
	cmd.Flags().StringSliceVar(&f.manifests, "manifests", nil, "files and directories with policies, playbooks and plan; may be repeated")
	cmd.Flags().StringVar(&f.format, "format", "", "format of the receiver the event is in, such as falco or alertmanager; a SecurityEvent when not given")
	cmd.Flags().StringVar(&f.formats, "formats-file", "", "the receiver's file of audit rules and mappings, for the formats audit and json/NAME")
	cmd.Flags().StringVar(&f.submittedBy, "submitted-by", "", "the user who sends it; a SecurityEvent says it itself")
	cmd.Flags().StringVar(&f.workload, "workload", "", "the top owner of the event's first resource, which takes a cluster to know; the resource's own name when not given")
	cmd.Flags().StringVar(&f.expect, "expect", "", "exit with 1 when the outcome is another: "+oneOf(expectations))
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "json")
	return cmd
}

func (s *session) simulate(ctx context.Context, f *simulateFlags) error {
	if err := checkOutput(f.output, outputJSON); err != nil {
		return err
	}
	if f.event == "" || len(f.manifests) == 0 {
		return failed("something is missing: --event FILE and --manifests PATH must be given", "Help: kubectl firebreak simulate --help")
	}
	expected := v1alpha1.AssessmentOutcome("")
	if f.expect != "" {
		var err error
		if expected, err = choose("--expect", f.expect, expectations); err != nil {
			return err
		}
	}
	set, err := s.readManifests(f.manifests)
	if err != nil {
		return err
	}
	events, namespace, err := s.eventsToSimulate(ctx, f, set)
	if err != nil {
		return err
	}
	domain, err := simulate.DomainOf(ctx, set, namespace)
	if err != nil {
		return failed("the manifests cannot be used: "+err.Error(), "All that is wrong: kubectl firebreak lint "+quote(f.manifests[0]))
	}
	if len(domain.Policies) == 0 {
		return failed(fmt.Sprintf("the manifests have no ClassificationPolicy for the namespace %s", cmp.Or(namespace, "of the event")), "Name another one with -n.")
	}
	var results []any
	unexpected := 0
	for i := range events {
		result, err := simulate.Run(ctx, simulate.Input{Domain: domain, Event: &events[i], Workload: f.workload, Now: events[i].Spec.ObservedTime.Time})
		if err != nil {
			return err
		}
		if expected != "" && result.Outcome == "" {
			return failed("it cannot be told: the rule has a `threshold`, and the event waits for more of its kind", "Test the rule's `match` without `threshold`.")
		}
		if expected != "" && result.Outcome != expected {
			unexpected++
		}
		if f.output == "" {
			s.printSimulation(result, i > 0)
		}
		results = append(results, result)
	}
	if f.output == outputJSON {
		if err := printObjects(s.Out, outputJSON, results...); err != nil {
			return err
		}
	}
	if unexpected > 0 {
		return &failure{code: ExitRefused, message: fmt.Sprintf("Not as expected: %s must be %s", plural(unexpected, "outcome"), expected)}
	}
	return nil
}

// eventsToSimulate reads the events, and finds the namespace they are assessed in.
func (s *session) eventsToSimulate(ctx context.Context, f *simulateFlags, set *manifest.Set) ([]v1alpha1.SecurityEvent, string, error) {
	namespace, err := s.domainOf(set)
	if err != nil {
		return nil, "", err
	}
	if f.format != "" {
		events, err := s.parseEvents(f, namespace)
		return events, namespace, err
	}
	given, err := s.readManifests([]string{f.event})
	if err != nil {
		return nil, "", err
	}
	var events []v1alpha1.SecurityEvent
	for _, problem := range given.Problems {
		return nil, "", failed(problem.At.String() + ": " + problem.Message)
	}
	for _, object := range given.Objects {
		if object.Kind != "SecurityEvent" {
			continue
		}
		faults, err := object.Validate(ctx)
		if err != nil {
			return nil, "", err
		}
		if len(faults) > 0 {
			return nil, "", failed(fmt.Sprintf("%s: the event would be refused: %s", object.At(faults[0].Path), faults[0].Message))
		}
		event := v1alpha1.SecurityEvent{}
		if err := object.Decode(&event); err != nil {
			return nil, "", err
		}
		if f.submittedBy != "" {
			event.Spec.SubmittedBy = f.submittedBy
		}
		if object.Namespace != "" && *s.flags.Namespace == "" {
			namespace = object.Namespace
		}
		events = append(events, event)
	}
	if len(events) == 0 {
		return nil, "", failed(f.event+" has no SecurityEvent: it must have one", "What a sender posts needs --format, such as --format falco.")
	}
	return events, namespace, nil
}

// domainOf is the namespace of -n, or the only one that has policies.
func (s *session) domainOf(set *manifest.Set) (string, error) {
	if *s.flags.Namespace != "" {
		return *s.flags.Namespace, nil
	}
	var namespaces []string
	for _, object := range set.Objects {
		if object.IsFirebreak() && object.Kind == "ClassificationPolicy" && object.Namespace != "" && !slices.Contains(namespaces, object.Namespace) {
			namespaces = append(namespaces, object.Namespace)
		}
	}
	if len(namespaces) > 1 {
		return "", failed(fmt.Sprintf("the manifests have policies of several namespaces: %s", strings.Join(namespaces, ", ")), "Choose one with -n.")
	}
	return strings.Join(namespaces, ""), nil
}

// parseEvents has the receiver's own parser read what a sender would post.
func (s *session) parseEvents(f *simulateFlags, namespace string) ([]v1alpha1.SecurityEvent, error) {
	if f.submittedBy == "" {
		return nil, failed("--submitted-by must be given with --format: rules rely on who sends", "Such as --submitted-by system:serviceaccount:falco:falco")
	}
	formats, err := receiver.LoadFormats(f.formats)
	if err != nil {
		return nil, failed("cannot read --formats-file: " + err.Error())
	}
	reader := s.In
	if f.event != "-" {
		file, err := os.Open(f.event)
		if err != nil {
			return nil, failed(err.Error())
		}
		defer file.Close()
		reader = file
	}
	content, err := io.ReadAll(io.LimitReader(reader, maxEventFile))
	if err != nil {
		return nil, failed(fmt.Sprintf("cannot read %s: %v", f.event, err))
	}
	events, err := formats.Parse(f.format, receiver.Body{Content: content, Namespace: namespace, Sender: f.submittedBy, ReceivedTime: s.clock.Now()})
	if err != nil {
		return nil, failed(fmt.Sprintf("%s is not what the format %s wants: %v", f.event, f.format, err))
	}
	return events, nil
}
