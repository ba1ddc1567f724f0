package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilrand "k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const declareLong = `Open an incident by hand, when no event leads to it. It takes the RBAC verbs create and declare
on incidents, which the ClusterRole firebreak-incident-manager has.

With --playbook its steps begin at once, on what --resource names and within the playbook's limits.
An event that is there already becomes an incident by 'promote'.

With --drill it is an exercise: the playbook runs as a dry run, people are asked as they would be,
and it never mixes with what is live.

  kubectl firebreak declare "Customer data on a public share" --severity High --category InformationContentSecurity`

var tlps = []v1alpha1.TLP{v1alpha1.TLPRed, v1alpha1.TLPAmberStrict, v1alpha1.TLPAmber, v1alpha1.TLPGreen, v1alpha1.TLPClear}

type declareFlags struct {
	createFlags
	severity, category, impact, tlp, playbook, occurred string
}

func newDeclareCommand(s *session) *cobra.Command {
	f := &declareFlags{}
	cmd := &cobra.Command{
		Use:   "declare TITLE --severity SEVERITY --category CATEGORY",
		Short: "Open an incident by hand",
		Long:  declareLong,
		Args:  between(1, 1),
		RunE:  func(cmd *cobra.Command, args []string) error { return s.declare(cmd.Context(), f, args[0]) },
	}
	f.add(cmd, "Incident")
	cmd.Flags().StringVar(&f.severity, "severity", "", "how bad it is: "+oneOf(severities)+" (required)")
	cmd.Flags().StringVar(&f.category, "category", "", "what it is: "+oneOf(categories)+" (required)")
	cmd.Flags().StringVar(&f.impact, "impact", "", "the effect on confidentiality, integrity and availability, each None, Low or High, such as High,Low,None")
	cmd.Flags().StringVar(&f.tlp, "tlp", "", "who may know: "+oneOf(tlps)+"; Amber when not given")
	cmd.Flags().StringVar(&f.playbook, "playbook", "", "the ResponsePlaybook that answers; without one people do by hand")
	cmd.Flags().StringVar(&f.occurred, "occurred", "", "when it began: '14:30', '2026-11-21 14:30', or how long ago, such as 3h; not known when not given")
	_ = cmd.RegisterFlagCompletionFunc("severity", cobra.FixedCompletions(enumNames(severities), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("category", cobra.FixedCompletions(enumNames(categories), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("tlp", cobra.FixedCompletions(enumNames(tlps), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("playbook", s.completePlaybooks)
	return cmd
}

func (s *session) declare(ctx context.Context, f *declareFlags, title string) error {
	if err := f.check(); err != nil {
		return err
	}
	spec, err := s.declaredSpec(f, title)
	if err != nil {
		return err
	}
	namespace, err := s.namespace()
	if err != nil {
		return err
	}
	if f.dryRun != "client" {
		if err := s.checkPlaybook(ctx, namespace, f.playbook); err != nil {
			return err
		}
	}
	// Named as rules name theirs. The name is chosen here: the verb is checked on it.
	name := fmt.Sprintf("inc-%s-%s", s.clock.Now().UTC().Format("20060102"), utilrand.String(5))
	incident := &v1alpha1.Incident{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}, Spec: *spec}
	created, err := s.create(ctx, &f.createFlags, incident, v1alpha1.SchemeGroupVersion.WithKind("Incident"))
	if err != nil || !created {
		return err
	}
	what := "incident"
	if f.drill {
		what = "drill"
	}
	fmt.Fprintf(s.Out, "%s the %s %s\n", s.style.green("Declared"), what, incident.Name)
	fmt.Fprintf(s.Out, "  Next: %s\n", s.command(namespace, "show", incident.Name))
	return nil
}

// checkPlaybook says that there is no such playbook, as far as the caller may know: an incident
// cannot be given another one before it stalls for it.
func (s *session) checkPlaybook(ctx context.Context, namespace, name string) error {
	api, err := s.client()
	if err != nil || name == "" {
		return err
	}
	err = api.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &v1alpha1.ResponsePlaybook{})
	if !apierrors.IsNotFound(err) || isMissingKind(err) {
		return nil // what creates the incident says what else is wrong
	}
	list, hint := &v1alpha1.ResponsePlaybookList{}, ""
	if err := api.List(ctx, list, client.InNamespace(namespace)); err == nil {
		hint = "There is none in it; without --playbook people do by hand."
		if names, _ := namesOf(list); len(names) > 0 {
			hint = "There is: " + strings.Join(names, ", ")
		}
	}
	return failed(fmt.Sprintf("there is no playbook %s in the namespace %s. No Incident was created", clean(name), namespace), hint, s.elsewhere(ctx, namespace))
}

func (s *session) declaredSpec(f *declareFlags, title string) (*v1alpha1.IncidentSpec, error) {
	spec := &v1alpha1.IncidentSpec{Title: title, Mode: f.mode(), PlaybookRef: v1alpha1.PlaybookReference{Name: f.playbook}}
	if strings.TrimSpace(title) == "" {
		return nil, failed("the title is empty: it must say in one line what has happened")
	}
	err := fits("the title", title, maxEventTitle)
	if err != nil {
		return nil, err
	}
	if f.severity == "" || f.category == "" {
		return nil, failed("--severity and --category must be given", "Severities: "+oneOf(severities), "Categories: "+oneOf(categories))
	}
	if spec.Severity, err = choose("--severity", f.severity, severities); err != nil {
		return nil, err
	}
	if spec.Category, err = choose("--category", f.category, categories); err != nil {
		return nil, err
	}
	if f.tlp != "" {
		if spec.TLP, err = choose("--tlp", f.tlp, tlps); err != nil {
			return nil, err
		}
	}
	if spec.Impact, err = impactOf(f.impact); err != nil {
		return nil, err
	}
	if spec.Resources, spec.Assets, err = f.things(); err != nil {
		return nil, err
	}
	detected, err := s.moment("", "")
	if err != nil {
		return nil, err
	}
	spec.DetectedTime = &detected
	if f.occurred != "" {
		occurred, err := s.moment("--occurred", f.occurred)
		if err != nil {
			return nil, err
		}
		spec.OccurredTime = &occurred
	}
	return spec, nil
}

// impactOf reads 'High,Low,None'.
func impactOf(text string) (v1alpha1.Impact, error) {
	if text == "" {
		return v1alpha1.Impact{}, nil
	}
	levels := []v1alpha1.ImpactLevel{v1alpha1.ImpactNone, v1alpha1.ImpactLow, v1alpha1.ImpactHigh}
	parts := strings.Split(text, ",")
	chosen := make([]v1alpha1.ImpactLevel, 0, len(parts))
	for _, part := range parts {
		if i := slices.IndexFunc(levels, func(level v1alpha1.ImpactLevel) bool {
			return strings.EqualFold(strings.TrimSpace(part), string(level))
		}); i >= 0 {
			chosen = append(chosen, levels[i])
		}
	}
	if len(parts) != 3 || len(chosen) != 3 {
		return v1alpha1.Impact{}, failed(fmt.Sprintf("--impact %q must be three of %s, for confidentiality, integrity and availability, such as High,Low,None", clean(text), oneOf(levels)))
	}
	return v1alpha1.Impact{Confidentiality: chosen[0], Integrity: chosen[1], Availability: chosen[2]}, nil
}
