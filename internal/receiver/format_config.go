package receiver

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

const (
	// maxFormatsFile is how large the file of --formats-file may be.
	maxFormatsFile = 1 << 20
	maxRules       = 256
)

// FormatsFile is the file of --formats-file: what formats need that are not fixed.
type FormatsFile struct {
	// Audit says which requests to the API server are alerts. Without rules, none is
	// accepted.
	Audit AuditConfig `json:"audit"`
	// Mappings make events of JSON of any shape, at the path 'json/NAME'. At most 64.
	Mappings []Mapping `json:"mappings"`
	// Reports says whose policy reports, where such are installed, become alerts of which
	// domain. Without any, none is read. At most 64.
	Reports []ReportSource `json:"reports"`
}

// AuditConfig says which requests to the API server are alerts.
type AuditConfig struct {
	// Rules are asked in order; the first that matches a request decides. What no rule
	// matches is no alert, and neither is what Firebreak does itself. At most 256.
	Rules []AuditRule `json:"rules"`
}

// AuditRule selects requests to the API server. A list that is empty matches anything;
// otherwise one of its items must be equal, or begin the same when it ends in '*'.
type AuditRule struct {
	// Name is the rule's, and the event's `source.rule`: 1 to 63 letters, digits and '-'.
	Name string `json:"name"`
	// Severity of the events. Required, unless the rule ignores.
	Severity v1alpha1.Severity `json:"severity"`
	// Title of the events, before who did it. Default is the verb and the object.
	Title string `json:"title"`
	// Ignore says that what the rule matches is no alert.
	Ignore bool `json:"ignore"`
	// Verbs of the request, such as 'create'.
	Verbs []string `json:"verbs"`
	// APIGroups of the object; the core group is "".
	APIGroups []string `json:"apiGroups"`
	// Resources of the object, such as 'secrets' and 'pods/exec'.
	Resources []string `json:"resources"`
	// ResourceNames are names of objects.
	ResourceNames []string `json:"resourceNames"`
	// Namespaces of the object; "" is that of objects outside of namespaces.
	Namespaces []string `json:"namespaces"`
	// NonResourceURLs are paths of requests that are about no object, such as '/metrics'.
	// When set, requests about objects do not match.
	NonResourceURLs []string `json:"nonResourceURLs"`
	// Users are names of who asked; of an impersonator, the impersonator's own.
	Users []string `json:"users"`
	// Groups are groups of who asked; one of them is enough.
	Groups []string `json:"groups"`
	// ExceptUsers, ExceptGroups and ExceptNamespaces are those the rule does not match.
	ExceptUsers      []string `json:"exceptUsers"`
	ExceptGroups     []string `json:"exceptGroups"`
	ExceptNamespaces []string `json:"exceptNamespaces"`
	// Decisions are 'allow' and 'forbid'.
	Decisions []string `json:"decisions"`
	// Stages of the request. Default is the end of a request, and for 'exec', 'attach'
	// and 'portforward', which last for as long as somebody likes, also its beginning.
	Stages []string `json:"stages"`
	// Attacks are the tactics and techniques of MITRE ATT&CK that it stands for.
	Attacks []v1alpha1.Attack `json:"attacks"`
}

// Formats are the wire formats a receiver understands.
type Formats struct {
	byName  map[string]format
	reports []ReportSource
}

// LoadFormats reads the file of --formats-file. Without a name it is the formats that
// need no configuration.
func LoadFormats(name string) (*Formats, error) {
	if name == "" {
		return &Formats{byName: formats}, nil
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFormatsFile {
		return nil, fmt.Errorf("%s must be at most %d bytes long, is %d", name, maxFormatsFile, info.Size())
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	all, err := parseFormats(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return all, nil
}

func parseFormats(text []byte) (*Formats, error) {
	var file FormatsFile
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		return nil, err
	}
	all := &Formats{byName: map[string]format{}}
	for name, wire := range formats {
		all.byName[name] = wire
	}
	if err := file.Audit.validate(); err != nil {
		return nil, err
	}
	all.byName["audit"] = auditFormat{rules: file.Audit.Rules}
	if err := validateReports(file.Reports); err != nil {
		return nil, err
	}
	all.reports = file.Reports
	if len(file.Mappings) > maxMappings {
		return nil, fmt.Errorf("mappings must be at most %d, are %d", maxMappings, len(file.Mappings))
	}
	for i := range file.Mappings {
		wire, err := file.Mappings[i].compile()
		if err != nil {
			return nil, fmt.Errorf("mappings[%d]: %w", i, err)
		}
		name := jsonFormatPrefix + file.Mappings[i].Name
		if all.byName[name] != nil {
			return nil, fmt.Errorf("mappings[%d].name must be no other mapping's, is %q again", i, file.Mappings[i].Name)
		}
		all.byName[name] = wire
	}
	return all, nil
}

func (c *AuditConfig) validate() error {
	if len(c.Rules) > maxRules {
		return fmt.Errorf("audit.rules must be at most %d, are %d", maxRules, len(c.Rules))
	}
	names := map[string]bool{}
	for i := range c.Rules {
		rule := &c.Rules[i]
		if err := rule.validate(); err != nil {
			return fmt.Errorf("audit.rules[%d]: %w", i, err)
		}
		if names[rule.Name] {
			return fmt.Errorf("audit.rules[%d].name must be no other rule's, is %q again", i, rule.Name)
		}
		names[rule.Name] = true
	}
	return nil
}

func (r *AuditRule) validate() error {
	if !isNamespace(strings.ToLower(r.Name)) {
		return fmt.Errorf("name must be 1 to 63 letters, digits and '-', is %q", r.Name)
	}
	if !r.Ignore && r.Severity.Rank() == 0 {
		return fmt.Errorf("severity of %s must be one of Informational, Low, Medium, High, Critical, is %q", r.Name, r.Severity)
	}
	for _, stage := range r.Stages {
		if !slices.Contains([]string{"RequestReceived", auditStarted, auditComplete, auditPanic}, stage) {
			return fmt.Errorf("stages of %s must be of RequestReceived, ResponseStarted, ResponseComplete and Panic, hold %q", r.Name, stage)
		}
	}
	for _, decision := range r.Decisions {
		if decision != "allow" && decision != "forbid" {
			return fmt.Errorf("decisions of %s must be of allow and forbid, hold %q", r.Name, decision)
		}
	}
	for _, attack := range r.Attacks {
		if attack.Technique != "" && !technique.MatchString(attack.Technique) || attack == (v1alpha1.Attack{}) {
			return fmt.Errorf("attacks of %s must have a tactic, or a technique such as 'T1609', hold %q", r.Name, attack.Technique)
		}
	}
	if len(r.NonResourceURLs) > 0 && len(r.APIGroups)+len(r.Resources)+len(r.ResourceNames)+len(r.Namespaces) > 0 {
		return errors.New("nonResourceURLs must not be set beside apiGroups, resources, resourceNames and namespaces of " + r.Name)
	}
	return nil
}

func (r *AuditRule) matches(e *auditEvent) bool {
	path, _, _ := strings.Cut(e.uri, "?")
	switch {
	case !r.hasStage(e),
		!anyOf(r.Verbs, e.verb), !anyOf(r.Users, e.user), !anyOf(r.Groups, e.groups...),
		!anyOf(r.Decisions, e.decision),
		len(r.NonResourceURLs) > 0 && (e.isResource || !anyOf(r.NonResourceURLs, path)),
		len(r.ExceptUsers) > 0 && anyOf(r.ExceptUsers, e.user),
		len(r.ExceptGroups) > 0 && anyOf(r.ExceptGroups, e.groups...),
		len(r.ExceptNamespaces) > 0 && anyOf(r.ExceptNamespaces, e.namespace):
		return false
	}
	if len(r.APIGroups)+len(r.Resources)+len(r.ResourceNames)+len(r.Namespaces) == 0 {
		return true
	}
	return e.isResource && anyOf(r.APIGroups, e.group) && anyOf(r.Resources, e.what()) &&
		anyOf(r.ResourceNames, e.name) && anyOf(r.Namespaces, e.namespace)
}

func (r *AuditRule) hasStage(e *auditEvent) bool {
	if len(r.Stages) > 0 {
		return slices.Contains(r.Stages, e.stage)
	}
	switch e.stage {
	case auditComplete, auditPanic:
		return true
	case auditStarted:
		return slices.Contains([]string{"exec", "attach", "portforward"}, e.sub)
	}
	return false
}

// anyOf says whether one of the words is one of the patterns; no patterns are any.
func anyOf(patterns []string, words ...string) bool {
	if len(patterns) == 0 {
		return true
	}
	for _, pattern := range patterns {
		prefix, open := strings.CutSuffix(pattern, "*")
		for _, word := range words {
			if word == pattern || open && strings.HasPrefix(word, prefix) {
				return true
			}
		}
	}
	return false
}
