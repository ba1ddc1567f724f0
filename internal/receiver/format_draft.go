package receiver

import (
	"regexp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	maxProductName = 63
	maxTactic      = 64
	maxResources   = 32
	maxAssets      = 16
	maxAttacks     = 16

	assetAccount = v1alpha1.AssetType("Account")
	assetDevice  = v1alpha1.AssetType("Device")
	assetOther   = v1alpha1.AssetType("Other")

	// attributeSeverity is 'assumed' where the sender said no severity that is known.
	attributeSeverity = "firebreak.severity"
	// attributeState is 'resolved' where the sender says that what it reported is over.
	attributeState = "firebreak.state"

	// resolvedSuffix keeps rules that match by name from taking the end of an alert for the alert.
	resolvedSuffix = " (resolved)"
)

// severityWords are what senders call severities, in lower case.
var severityWords = map[string]v1alpha1.Severity{
	"critical": v1alpha1.SeverityCritical, "fatal": v1alpha1.SeverityCritical, "crit": v1alpha1.SeverityCritical,
	"emergency": v1alpha1.SeverityCritical, "alert": v1alpha1.SeverityCritical, "page": v1alpha1.SeverityCritical, "p1": v1alpha1.SeverityCritical,
	"high": v1alpha1.SeverityHigh, "error": v1alpha1.SeverityHigh, "err": v1alpha1.SeverityHigh, "major": v1alpha1.SeverityHigh, "p2": v1alpha1.SeverityHigh,
	"medium": v1alpha1.SeverityMedium, "moderate": v1alpha1.SeverityMedium, "warning": v1alpha1.SeverityMedium, "warn": v1alpha1.SeverityMedium, "p3": v1alpha1.SeverityMedium,
	"low": v1alpha1.SeverityLow, "minor": v1alpha1.SeverityLow, "notice": v1alpha1.SeverityLow, "p4": v1alpha1.SeverityLow,
	"informational": v1alpha1.SeverityInformational, "info": v1alpha1.SeverityInformational, "information": v1alpha1.SeverityInformational,
	"debug": v1alpha1.SeverityInformational, "none": v1alpha1.SeverityInformational, "negligible": v1alpha1.SeverityInformational,
}

var (
	apiVersion = regexp.MustCompile(`^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?v[a-z0-9]+$`)
	kindName   = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,62}$`)
)

// draft is an event in the making. What does not fit the API is cut or left out, never
// refused: a name that cannot be one stays an attribute.
type draft struct {
	report
	raw        []byte
	spec       v1alpha1.SecurityEventSpec
	attributes attributeSet
	undated    bool
}

// draft begins an event of a product's rule, made from a part of the body.
func (r report) draft(product, rule string, raw []byte) *draft {
	d := &draft{report: r, raw: raw}
	d.spec.Source = v1alpha1.EventSource{
		Kind:    v1alpha1.SourceAutomatic,
		Product: clean(strings.ToLower(product), maxProductName),
		Rule:    clean(rule, maxName),
	}
	d.spec.SubmittedBy = r.sender
	return d
}

// texts sets title and description. A title that does not fit on its line is told in
// full by the description, where there is no other.
func (d *draft) texts(title, description string) {
	d.spec.Title = clean(title, maxTitle)
	if d.spec.Title == "" {
		d.spec.Title = clean(first(d.spec.Source.Rule, "An alert without a text"), maxTitle)
	}
	if description = cleanLines(first(description, title), maxDescription); description != d.spec.Title {
		d.spec.Description = description
	}
}

// severity is the first word that is known; without one it is Medium, and says so.
func (d *draft) severity(words ...string) {
	for _, word := range words {
		if severity, known := severityWords[strings.ToLower(strings.TrimSpace(word))]; known {
			d.spec.Severity = severity
			return
		}
	}
	d.spec.Severity = v1alpha1.SeverityMedium
	d.attributes.add(attributeSeverity, "assumed")
}

// observed sets when it was seen, to the second, as the API keeps it. The zero time,
// also Go's own in the text of a sender, is the time of receipt.
func (d *draft) observed(at time.Time) {
	if d.undated = at.Year() <= 1; d.undated {
		at = d.receivedTime
	}
	d.spec.ObservedTime = metav1.Time{Time: at.UTC().Truncate(time.Second)}
}

// resolve says that the sender reports the end of an alert.
func (d *draft) resolve() {
	d.spec.Source.Rule = strings.TrimSpace(clean(d.spec.Source.Rule, maxName-len(resolvedSuffix)) + resolvedSuffix)
	d.spec.Title = clean("Resolved: "+d.spec.Title, maxTitle)
	d.spec.Severity = v1alpha1.SeverityInformational
	d.attributes.add(attributeState, "resolved")
}

// resource adds an object of the cluster, when its name can be one. Container, image
// and node are left out where they cannot be such.
func (d *draft) resource(ref v1alpha1.ResourceReference) bool {
	if ref.APIVersion == "" {
		ref.APIVersion = apiVersionOf(ref.Kind)
	}
	scoped := slices.Contains(clusterScoped, ref.Kind)
	if scoped {
		ref.Namespace = "" // some senders give a namespace its own name
	}
	switch {
	case !kindName.MatchString(ref.Kind), !apiVersion.MatchString(ref.APIVersion), len(ref.APIVersion) > 317,
		!resourceName.MatchString(ref.Name), len(ref.Name) > maxName,
		ref.Namespace != "" && !isNamespace(ref.Namespace),
		ref.Namespace == "" && !scoped && apiVersionOf(ref.Kind) != "":
		return false
	}
	if !objectUID.MatchString(string(ref.UID)) {
		ref.UID = ""
	}
	ref.Container = nameOr(ref.Container, "")
	ref.Node = nameOr(ref.Node, "")
	if len(ref.Image) > maxImage || !imageName.MatchString(ref.Image) {
		ref.Image = ""
	}
	same := func(other v1alpha1.ResourceReference) bool {
		return other.Kind == ref.Kind && other.Namespace == ref.Namespace && other.Name == ref.Name
	}
	if len(d.spec.Resources) < maxResources && !slices.ContainsFunc(d.spec.Resources, same) {
		d.spec.Resources = append(d.spec.Resources, ref)
	}
	return true
}

// asset adds a thing that is no object of the cluster.
func (d *draft) asset(kind v1alpha1.AssetType, identifier, owner string) {
	identifier = clean(identifier, maxName)
	if identifier == "" || len(d.spec.Assets) == maxAssets {
		return
	}
	d.spec.Assets = append(d.spec.Assets, v1alpha1.Asset{Type: kind, Identifier: identifier, Owner: clean(owner, maxName)})
}

// attack adds a tactic, a technique, or both.
func (d *draft) attack(tactic, id string) {
	attack := v1alpha1.Attack{Tactic: clean(tactic, maxTactic)}
	if id = strings.ToUpper(strings.TrimSpace(id)); technique.MatchString(id) {
		attack.Technique = id
	}
	if attack != (v1alpha1.Attack{}) && len(d.spec.Attacks) < maxAttacks && !slices.Contains(d.spec.Attacks, attack) {
		d.spec.Attacks = append(d.spec.Attacks, attack)
	}
}

// tags adds the tactics and techniques among tags, as Falco's rules write them.
func (d *draft) tags(tags []string) {
	for _, attack := range (&falcoEvent{tags: tags}).attacks() {
		d.attack(attack.Tactic, attack.Technique)
	}
}

// finish is the alert. Its fingerprint is of the parts that tell it from others.
func (d *draft) finish(fingerprint ...string) alert {
	if len(fingerprint) > 0 {
		d.spec.Fingerprint = digest(append([]string{d.spec.Source.Product}, fingerprint...)...)
	}
	d.spec.Attributes = d.attributes.all()
	d.spec.RawDataHash = hashOf(d.raw)
	return alert{spec: d.spec, undated: d.undated}
}

// apiVersionOf is the API version of a kind that Kubernetes comes with.
func apiVersionOf(kind string) string {
	for _, reference := range kubernetesKinds {
		if reference.Kind == kind {
			return reference.APIVersion
		}
	}
	return ""
}

// kubernetesKind is how Kubernetes spells a kind, such as 'Pod' for 'pods' and 'pod'.
func kubernetesKind(word string) string {
	word = strings.ToLower(strings.TrimSpace(word))
	for plural, reference := range kubernetesKinds {
		if word == plural || word == strings.ToLower(reference.Kind) {
			return reference.Kind
		}
	}
	return ""
}

// nameOr is a name of a container or node, or what stands in for one that cannot be it.
func nameOr(name, otherwise string) string {
	if len(name) <= maxName && resourceName.MatchString(name) {
		return name
	}
	return otherwise
}
