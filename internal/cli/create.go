package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// createFlags are the flags of the commands that create what is no Decision.
type createFlags struct {
	dryRun, output    string
	resources, assets []string
	drill             bool
}

func (f *createFlags) add(cmd *cobra.Command, noun string) {
	cmd.Flags().StringVar(&f.dryRun, "dry-run", "none", "'client' prints the "+noun+" and creates nothing; 'server' lets the API server check it too")
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "print the "+noun+" as yaml, json or name")
	cmd.Flags().BoolVar(&f.drill, "drill", false, "an exercise: it is kept apart from what is live, and nothing that answers it takes effect")
	cmd.Flags().StringArrayVar(&f.resources, "resource", nil, "an object of the cluster it is about, as KIND/[NAMESPACE/]NAME, such as Pod/shop/cart-7f9; may be repeated")
	cmd.Flags().StringArrayVar(&f.assets, "asset", nil, "a thing outside the cluster it is about, as TYPE:NAME, such as Device:LT-0042; TYPE is one of "+oneOf(assetTypes)+"; may be repeated")
}

func (f *createFlags) check() error {
	switch f.dryRun {
	case "none", "client", "server":
	default:
		return failed(fmt.Sprintf("--dry-run=%s is not known: it must be none, client or server", clean(f.dryRun)))
	}
	return checkOutput(f.output, outputYAML, outputJSON, outputName)
}

var assetTypes = []v1alpha1.AssetType{"Device", "File", "Account", "Site", "Service", "Other"}

// things are the resources and assets that the flags name.
func (f *createFlags) things() (resources []v1alpha1.ResourceReference, assets []v1alpha1.Asset, err error) {
	for _, text := range f.resources {
		kind, name, ok := strings.Cut(text, "/")
		if !ok || kind == "" || name == "" {
			return nil, nil, failed(fmt.Sprintf("--resource %q must be KIND/[NAMESPACE/]NAME, such as Pod/shop/cart-7f9", clean(text)))
		}
		resource, err := (&addResourceFlags{}).resource(kind, name)
		if err != nil {
			return nil, nil, failed(fmt.Sprintf("--resource %q: the API version of the kind is not known", clean(text)), "It must be one of the usual kinds; for others write a manifest: --dry-run=client -o yaml")
		}
		resources = append(resources, resource)
	}
	for _, text := range f.assets {
		kind, name, ok := strings.Cut(text, ":")
		if !ok || name == "" {
			return nil, nil, failed(fmt.Sprintf("--asset %q must be TYPE:NAME, such as Device:LT-0042", clean(text)))
		}
		found, err := choose("the type of --asset", kind, assetTypes)
		if err != nil {
			return nil, nil, err
		}
		assets = append(assets, v1alpha1.Asset{Type: found, Identifier: name})
	}
	return resources, assets, nil
}

// mode is the mode of what is created. Without the flag it is left to the API server.
func (f *createFlags) mode() v1alpha1.Mode {
	if f.drill {
		return v1alpha1.ModeDrill
	}
	return ""
}

// create creates an object, or prints what would be.
func (s *session) create(ctx context.Context, f *createFlags, object client.Object, kind schema.GroupVersionKind) (created bool, err error) {
	object.GetObjectKind().SetGroupVersionKind(kind)
	if f.dryRun == "client" {
		return false, s.printCreated(f, object, kind)
	}
	api, err := s.client()
	if err != nil {
		return false, err
	}
	var options []client.CreateOption
	domain := s.domainOrNot(ctx, object.GetNamespace())
	if domain == domainNo {
		return false, failed(fmt.Sprintf("the namespace %s is not a response domain: nobody would look at it. No %s was created", object.GetNamespace(), kind.Kind),
			s.otherDomain(ctx, object.GetNamespace()))
	}
	if f.dryRun == "server" {
		options = append(options, client.DryRunAll)
	}
	if f.drill {
		// By an older CRD it must not become the real thing.
		options = append(options, client.FieldValidation(metav1.FieldValidationStrict))
	}
	if err := api.Create(ctx, object, options...); err != nil {
		return false, s.notCreated(ctx, err, kind.Kind, object.GetNamespace())
	}
	if f.dryRun == "server" || f.output != "" {
		object.GetObjectKind().SetGroupVersionKind(kind)
		err = s.printCreated(f, object, kind)
	}
	if err != nil || f.dryRun == "server" {
		return false, err
	}
	if domain == domainUnknown {
		err = s.firstWord(ctx, object, strings.ToLower(kind.Kind))
	}
	return err == nil && f.output == "", err
}

func (s *session) printCreated(f *createFlags, object client.Object, kind schema.GroupVersionKind) error {
	object.SetManagedFields(nil)
	switch f.output {
	case outputName:
		name := object.GetName()
		if name == "" {
			name = object.GetGenerateName()
		}
		fmt.Fprintf(s.Out, "%s.%s/%s\n", strings.ToLower(kind.Kind), kind.Group, name)
		return nil
	case outputJSON:
		return printObjects(s.Out, outputJSON, object)
	default:
		return printObjects(s.Out, outputYAML, object)
	}
}

// rolesToCreate are the ClusterRoles that ship of who creates what is no Decision.
var rolesToCreate = map[string]string{"SecurityEvent": "firebreak-reporter", "Incident": "firebreak-incident-manager"}

// notCreated says in plain words why the API server did not take an object.
func (s *session) notCreated(ctx context.Context, err error, kind, namespace string) error {
	var status apierrors.APIStatus
	var network *net.OpError
	switch {
	case errors.As(err, &status):
	case errors.As(err, &network) && network.Op == "dial": // nothing was sent
		return explain(err, "create the "+kind)
	default:
		return &failure{code: ExitError, cause: err, message: fmt.Sprintf("the connection was lost (%v): the %s may have been created all the same", err, kind),
			hints: []string{fmt.Sprintf("Look: kubectl get %ss -n %s%s", strings.ToLower(kind), namespace, s.clusterFlags())}}
	}
	message := err.Error()
	refused := &failure{code: ExitRefused, cause: err, hints: []string{"No " + kind + " was created."}}
	at := strings.LastIndex(message, deniedRequest)
	switch {
	case apierrors.IsForbidden(err) && at >= 0:
		refused.message = "Refused: " + message[at+len(deniedRequest):]
		if strings.Contains(message, "RBAC verb") {
			refused.hints = append(refused.hints, "Ask whoever runs Firebreak here for the ClusterRole "+rolesToCreate[kind]+".")
		}
	case apierrors.IsInvalid(err):
		refused.message = "Refused: " + strings.Join(causes(status.Status(), message), "; ")
	case apierrors.IsForbidden(err):
		refused.message = fmt.Sprintf("Refused: you are not permitted to create %ss in the namespace %s.", kind, namespace)
		refused.hints = append(refused.hints, "The API server says: "+message,
			fmt.Sprintf("Ask whoever runs Firebreak here for the ClusterRole %s in the namespace, or choose your response domain with -n.", rolesToCreate[kind]),
			s.elsewhere(ctx, namespace))
	case apierrors.IsNotFound(err) && !isMissingKind(err):
		return failed(fmt.Sprintf("there is no namespace %s. No %s was created", namespace, kind), s.otherDomain(ctx, namespace))
	default:
		return explain(err, "create the "+kind)
	}
	return refused
}

// moment reads a time that a person types: '14:30', '2026-11-21 14:30', RFC 3339, or how
// long ago it was, such as '20m'. Empty is now.
func (s *session) moment(flag, text string) (metav1.Time, error) {
	now := s.clock.Now()
	text = strings.TrimSpace(text)
	if text == "" || text == "now" {
		return metav1.NewTime(now.UTC().Truncate(time.Second)), nil
	}
	if ago, err := time.ParseDuration(strings.TrimSuffix(text, " ago")); err == nil && ago >= 0 {
		return metav1.NewTime(now.Add(-ago).UTC().Truncate(time.Second)), nil
	}
	if clock, err := time.ParseInLocation("15:04", text, s.location); err == nil {
		today := now.In(s.location)
		at := time.Date(today.Year(), today.Month(), today.Day(), clock.Hour(), clock.Minute(), 0, 0, s.location)
		if at.After(now) {
			at = at.AddDate(0, 0, -1)
		}
		return metav1.NewTime(at.UTC()), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04", "2006-01-02 15:04:05"} {
		if at, err := time.ParseInLocation(layout, text, s.location); err == nil {
			if at.After(now) {
				return metav1.Time{}, failed(fmt.Sprintf("%s %q is in the future: it must be when it happened", flag, clean(text)))
			}
			return metav1.NewTime(at.UTC().Truncate(time.Second)), nil
		}
	}
	return metav1.Time{}, failed(fmt.Sprintf("%s %q must be a time such as '14:30', '2026-11-21 14:30' or '2026-11-21T14:30:00Z', or how long ago it was, such as '20m'", flag, clean(text)))
}

// fits checks how long a text is.
func fits(flag, text string, most int) error {
	if count := utf8.RuneCountInString(text); count > most {
		return failed(fmt.Sprintf("%s must be at most %d characters long, is %d", flag, most, count))
	}
	return nil
}
