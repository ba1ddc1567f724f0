package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
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
The event is a SecurityEvent, or with --format what a sender would post to the receiver. Several,
in one file or by several --event, come one after the other: those of the same thing count for
a threshold, and those of one key join the incident that the first has opened, or open the next.

  kubectl firebreak simulate --event event.yaml --manifests clusters/prod/security --expect Promoted
  kubectl firebreak simulate --event alert.json --format falco \
    --submitted-by system:serviceaccount:falco:falco -n security --manifests .
  kubectl firebreak simulate --event scan.yaml --occurrences 20 --manifests clusters/prod/security

Exit code: 0 done, and as expected (what is joined is promoted, too); 1 not as expected; 2 could
not be told.`

	maxEventFile = 4 << 20
	// maxOccurrences is the most that a threshold may ask for.
	maxOccurrences = 1_000_000
)

type simulateFlags struct {
	format, formats, submittedBy, workload, expect, output string
	events, manifests                                      []string
	occurrences                                            int64
}

var expectations = []v1alpha1.AssessmentOutcome{v1alpha1.OutcomePromoted, v1alpha1.OutcomeJoined, v1alpha1.OutcomeDismissed, v1alpha1.OutcomeDeferred}

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
	cmd.Flags().StringArrayVar(&f.events, "event", nil, "file with the event, or several; '-' is the standard input; may be repeated")
	cmd.Flags().Int64Var(&f.occurrences, "occurrences", 1, "how often each event is seen, within one minute: what the threshold of a rule counts")
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
	if len(f.events) == 0 || len(f.manifests) == 0 {
		return failed("something is missing: --event FILE and --manifests PATH must be given", "Help: kubectl firebreak simulate --help")
	}
	if f.occurrences < 1 || f.occurrences > maxOccurrences {
		return failed(fmt.Sprintf("--occurrences %d must be from 1 to %d", f.occurrences, maxOccurrences))
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
	results, err := simulate.RunAll(ctx, simulate.Input{Domain: domain, Workload: f.workload, Occurrences: f.occurrences}, events)
	if err != nil {
		return err
	}
	if f.output == outputJSON {
		objects := make([]any, 0, len(results))
		for _, result := range results {
			objects = append(objects, result)
		}
		if err := printObjects(s.Out, outputJSON, objects...); err != nil {
			return err
		}
	} else {
		for i, result := range results {
			s.printSimulation(result, i > 0)
		}
	}
	return asExpected(expected, results)
}

// asExpected says which outcomes are not. What joins an incident is promoted, too.
func asExpected(expected v1alpha1.AssessmentOutcome, results []*simulate.Result) error {
	var others []string
	for _, result := range results {
		joined := expected == v1alpha1.OutcomePromoted && result.Outcome == v1alpha1.OutcomeJoined
		if expected != "" && result.Outcome != expected && !joined {
			others = append(others, fmt.Sprintf("%s: %s (%s)", cmp.Or(result.Event, result.Title), result.Outcome, result.Reason))
		}
	}
	if len(others) == 0 {
		return nil
	}
	return &failure{code: ExitRefused, message: fmt.Sprintf("Not as expected: %s must be %s", plural(len(others), "outcome"), expected), hints: others}
}

// eventsToSimulate reads the events, and finds the namespace they are assessed in.
func (s *session) eventsToSimulate(ctx context.Context, f *simulateFlags, set *manifest.Set) ([]v1alpha1.SecurityEvent, string, error) {
	namespace, err := s.domainOf(set)
	if err != nil {
		return nil, "", err
	}
	var all []v1alpha1.SecurityEvent
	for _, file := range f.events {
		var events []v1alpha1.SecurityEvent
		if f.format != "" {
			events, err = s.parseEvents(f, file, namespace)
		} else {
			events, err = s.readEvents(ctx, f, file)
		}
		if err != nil {
			return nil, "", err
		}
		for i := range events {
			if events[i].Namespace != "" && *s.flags.Namespace == "" {
				namespace = events[i].Namespace
			}
		}
		all = append(all, events...)
	}
	return all, namespace, nil
}

// readEvents reads the SecurityEvents of a file.
func (s *session) readEvents(ctx context.Context, f *simulateFlags, file string) ([]v1alpha1.SecurityEvent, error) {
	given, err := s.readManifests([]string{file})
	if err != nil {
		return nil, err
	}
	for _, problem := range given.Problems {
		return nil, failed(problem.At.String() + ": " + problem.Message)
	}
	var events []v1alpha1.SecurityEvent
	for _, object := range given.Objects {
		if object.Kind != "SecurityEvent" {
			continue
		}
		faults, err := object.Validate(ctx)
		if err != nil {
			return nil, err
		}
		if len(faults) > 0 {
			return nil, failed(fmt.Sprintf("%s: the event would be refused: %s", object.At(faults[0].Path), faults[0].Message))
		}
		event := v1alpha1.SecurityEvent{}
		if err := object.Decode(&event); err != nil {
			return nil, err
		}
		if f.submittedBy != "" {
			event.Spec.SubmittedBy = f.submittedBy
		}
		events = append(events, event)
	}
	if len(events) == 0 {
		return nil, failed(file+" has no SecurityEvent: it must have one", "What a sender posts needs --format, such as --format falco.")
	}
	return events, nil
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
func (s *session) parseEvents(f *simulateFlags, event, namespace string) ([]v1alpha1.SecurityEvent, error) {
	if f.submittedBy == "" {
		return nil, failed("--submitted-by must be given with --format: rules rely on who sends", "Such as --submitted-by system:serviceaccount:falco:falco")
	}
	if f.formats == "" && (f.format == "audit" || strings.HasPrefix(f.format, "json/")) {
		return nil, failed("--formats-file must be given with --format "+f.format+": it says how the receiver reads it", "It is the receiver's own; config/samples/senders/formats.yaml is one to begin from.")
	}
	formats, err := receiver.LoadFormats(f.formats)
	if err != nil {
		return nil, failed("cannot read --formats-file: " + err.Error())
	}
	reader := s.In
	if event != "-" {
		file, err := os.Open(event)
		if err != nil {
			return nil, failed(err.Error())
		}
		defer file.Close()
		reader = file
	}
	content, err := io.ReadAll(io.LimitReader(reader, maxEventFile))
	if err != nil {
		return nil, failed(fmt.Sprintf("cannot read %s: %v", event, err))
	}
	var events []v1alpha1.SecurityEvent
	for i, body := range bodies(content) {
		parsed, err := formats.Parse(f.format, receiver.Body{Content: body, Namespace: namespace, Sender: f.submittedBy, ReceivedTime: s.clock.Now()})
		if err != nil {
			return nil, failed(fmt.Sprintf("%s, report %d, is not what the format %s wants: %v", event, i+1, f.format, err))
		}
		events = append(events, parsed...)
	}
	if len(events) == 0 {
		return nil, failed(fmt.Sprintf("%s holds no alert: what it says is passed over by the format %s", event, f.format))
	}
	return events, nil
}

// bodies takes apart what holds several JSON documents one after the other, as logs of alerts
// do. What is no JSON is one body, of which the format says what is wrong.
func bodies(content []byte) [][]byte {
	decoder := json.NewDecoder(bytes.NewReader(content))
	var all [][]byte
	for {
		var one json.RawMessage
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) && len(all) > 0 {
			return all
		}
		if err != nil {
			return [][]byte{content}
		}
		all = append(all, one)
	}
}
