// Command actiondocs writes the reference of what playbooks can do, from the registry of
// actions and from the schema that the API server enforces.
package main

import (
	"bytes"
	_ "embed"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
	"github.com/firebreak-dev/firebreak/internal/action"
	"github.com/firebreak-dev/firebreak/internal/lifecycle"
)

//go:embed intro.md
var intro string

func main() {
	output := flag.String("output", "config/playbooks/README.md", "the file to write")
	flag.Parse()
	if err := run(*output); err != nil {
		fmt.Fprintln(os.Stderr, "actiondocs:", err)
		os.Exit(1)
	}
}

func run(output string) error {
	text, err := render(filepath.Dir(output))
	if err != nil {
		return err
	}
	return os.WriteFile(output, []byte(text), 0o644)
}

// render gives the whole document. The folder is where the ready-made playbooks are.
func render(folder string) (string, error) {
	step, err := stepSchema()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(intro)
	ready, err := readyMade(folder)
	if err != nil {
		return "", err
	}
	writeReadyMade(&b, ready)
	b.WriteString("## Actions\n\nExactly one a step.\n\n| action | can contain | undo | held | may lose evidence |\n| --- | --- | --- | --- | --- |\n")
	for _, trait := range lifecycle.Actions {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s | %s | %s |\n", trait.Name, strings.ToLower(trait.Name),
			tick(trait.Contains), tick(trait.Undoable), tick(trait.Held), tick(trait.Destroys))
	}
	b.WriteString("\n*Held*: until it is undone the effect is looked at, and made again when something takes it away; after the third loss a person is called.\n\n")
	writeFields(&b, "### Fields of every step\n\n", step.commonFields())
	for _, trait := range lifecycle.Actions {
		if err := writeAction(&b, trait, step); err != nil {
			return "", fmt.Errorf("action %s: %w", trait.Name, err)
		}
	}
	return strings.TrimRight(b.String(), "\n") + "\n", nil
}

func tick(yes bool) string {
	if yes {
		return "yes"
	}
	return "–"
}

func writeAction(b *strings.Builder, trait lifecycle.Trait, schema *schema) error {
	fmt.Fprintf(b, "### %s\n\n", trait.Name)
	about, ok := action.DescriptionOf(trait.Name)
	if !ok {
		fmt.Fprintf(b, "%s\n\n", oneLine(schema.Properties[trait.Name].Description))
		return nil
	}
	fmt.Fprintf(b, "%s\n\n", about.Does)
	if about.Example != "" {
		fmt.Fprintf(b, "```yaml\n%s\n```\n\n", strings.TrimSpace(about.Example))
	}
	writeFields(b, "", schema.Properties[trait.Name].fields("", 0))
	if len(about.Kinds) > 0 {
		kinds := make([]string, 0, len(about.Kinds))
		for _, kind := range about.Kinds {
			kinds = append(kinds, strings.TrimPrefix(kind.Kind+" ("+kind.Group+")", " "))
		}
		fmt.Fprintf(b, "**Acts on**: %s.\n\n", strings.ReplaceAll(strings.Join(kinds, ", "), " ()", ""))
	}
	if about.Undo != "" {
		fmt.Fprintf(b, "**Undo**: %s\n\n", about.Undo)
	} else if trait.Acts && !trait.Reads {
		b.WriteString("**Undo**: none.\n\n")
	}
	rights, err := rightsOf(about.Example)
	if err != nil {
		return err
	}
	if len(rights) > 0 {
		fmt.Fprintf(b, "**Rights** of this step: %s.\n\n", strings.Join(rights, "; "))
	}
	for i, limit := range about.Limits {
		if i == 0 {
			b.WriteString("**Limits**\n\n")
		}
		fmt.Fprintf(b, "- %s\n", limit)
	}
	if len(about.Limits) > 0 {
		b.WriteString("\n")
	}
	return nil
}

// rightsOf are the rights of a step, in words: resources with the same verbs in one.
func rightsOf(example string) ([]string, error) {
	if example == "" {
		return nil, nil
	}
	step := v1alpha1.PlaybookStep{}
	if err := sigsyaml.UnmarshalStrict([]byte(example), &step); err != nil {
		return nil, fmt.Errorf("its example: %w", err)
	}
	playbook := &v1alpha1.ResponsePlaybookSpec{Containment: v1alpha1.PlaybookPhase{Steps: []v1alpha1.PlaybookStep{step}}}
	var order []string
	resources := map[string][]string{}
	for _, one := range action.PlaybookRights(playbook) {
		for _, right := range one.Rights {
			if one.Step == "" {
				continue
			}
			how := strings.Join(right.Verbs, ", ") + "\x00" + whenInWords(right)
			if resources[how] == nil {
				order = append(order, how)
			}
			resources[how] = append(resources[how], whatInWords(right))
		}
	}
	words := make([]string, 0, len(order))
	for _, how := range order {
		verbs, when, _ := strings.Cut(how, "\x00")
		words = append(words, verbs+" on "+strings.Join(resources[how], ", ")+when)
	}
	return words, nil
}

func whatInWords(right action.Right) string {
	if right.Unknown != "" {
		return right.Unknown
	}
	resource := right.Resource
	if right.Group != "" {
		resource += "." + right.Group
	}
	text := "`" + resource + "`"
	if len(right.Names) > 0 {
		text += " '" + strings.Join(right.Names, "', '") + "'"
	}
	return text
}

func whenInWords(right action.Right) string {
	text := ""
	switch right.Place {
	case action.InDomain:
		text += " in the domain"
	case action.InCluster:
		text += " in the cluster"
	case action.AtTargets:
	}
	switch right.Need {
	case action.OneOf:
		text += ", as such targets are met"
	case action.Useful:
		text += " (it does without)"
	case action.Required:
	}
	return text
}

// readyMade are the playbooks of a folder and the folders in it.
func readyMade(folder string) ([]v1alpha1.ResponsePlaybook, error) {
	var found []v1alpha1.ResponsePlaybook
	for _, pattern := range []string{"*.yaml", "*/*.yaml"} {
		files, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			playbooks, err := playbooksIn(content)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			for i := range playbooks {
				relative, err := filepath.Rel(folder, file)
				if err != nil {
					return nil, err
				}
				playbooks[i].Annotations = map[string]string{"file": filepath.ToSlash(relative)}
			}
			found = append(found, playbooks...)
		}
	}
	slices.SortStableFunc(found, func(a, b v1alpha1.ResponsePlaybook) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

func playbooksIn(content []byte) ([]v1alpha1.ResponsePlaybook, error) {
	var found []v1alpha1.ResponsePlaybook
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	for {
		playbook := v1alpha1.ResponsePlaybook{}
		if err := decoder.Decode(&playbook); err != nil {
			if err.Error() == "EOF" {
				return found, nil
			}
			return nil, err
		}
		if playbook.Kind == "ResponsePlaybook" {
			found = append(found, playbook)
		}
	}
}

const readyMadeIntro = `## Ready-made playbooks

Each folder holds a playbook with its policy, its ServiceAccount and the rights that it needs,
for ` + "`kubectl apply -k`" + `, and the alert that triggers it as its sender writes it,
` + "`alert.FORMAT.json`" + `: ` + "`kubectl firebreak simulate --event FILE --format FORMAT`" + ` says what it
would set off, and the receiver takes it at ` + "`/v1/namespaces/security/FORMAT`" + `. Format ` + "`audit`" + ` needs
the rules in ` + "`config/samples/senders/formats.yaml`" + `; ` + "`events`" + `, Firebreak's own, is for what a
person reports. They expect the namespace ` + "`security`" + ` to be a response domain whose plan has the
role ` + "`IncidentManager`" + `, and act in the namespace ` + "`shop`" + `: change both to yours, and the senders
that the policies trust.

`

func writeReadyMade(b *strings.Builder, ready []v1alpha1.ResponsePlaybook) {
	if len(ready) == 0 {
		return
	}
	b.WriteString(readyMadeIntro + "| playbook | when, and what it does |\n| --- | --- |\n")
	for i := range ready {
		fmt.Fprintf(b, "| [`%s`](%s) | %s |\n", ready[i].Name, ready[i].Annotations["file"], oneLine(ready[i].Spec.Description))
	}
	b.WriteString("\n")
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
