// Package manifest reads the objects of YAML files and keeps where in them every field
// stands, so that what is wrong can be pointed at. It needs no cluster.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	sigsyaml "sigs.k8s.io/yaml"
)

// maxFile is how large one file may be.
const maxFile = 16 << 20

// Position is where something stands in a file; lines and columns count from 1.
type Position struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column,omitempty"`
}

// String is 'FILE:LINE', as editors understand it.
func (p Position) String() string { return p.File + ":" + strconv.Itoa(p.Line) }

// Problem is what is wrong with a file that cannot be read as objects.
type Problem struct {
	// At is where.
	At Position
	// Message says what is wrong and what would be right.
	Message string
}

// Object is an object of a manifest.
type Object struct {
	// APIVersion and Kind say what it is.
	APIVersion, Kind string
	// Namespace and Name are of its metadata; the namespace may be empty.
	Namespace, Name string
	// Content is all of it, as JSON has it.
	Content map[string]any

	file string
	node *yaml.Node
}

// Set is what was read.
type Set struct {
	// Files is how many files were read.
	Files int
	// Objects are the objects in the order in which they stand there.
	Objects []*Object
	// Others is how many documents are no Kubernetes object.
	Others int
	// Problems are the files and documents that could not be read.
	Problems []Problem
}

// Read reads files of YAML or JSON; '-' is the standard input. Of directories it reads
// the files '*.yaml', '*.yml' and '*.json' in and below them, but for what is hidden. A file to which several paths lead is read once. The error says that a path
// cannot be read at all.
func Read(paths []string, stdin io.Reader) (*Set, error) {
	set := &Set{}
	seen := map[string]bool{}
	for _, path := range paths {
		files := []found{{name: path}}
		if path != "-" {
			var err error
			if files, err = set.filesOf(path); err != nil {
				return nil, err
			}
		}
		for _, file := range files {
			place, err := placeOf(file.name)
			if err != nil {
				place = file.name
			}
			if seen[place] {
				continue
			}
			seen[place] = true
			if err := set.readFile(file, stdin); err != nil {
				return nil, err
			}
		}
	}
	return set, nil
}

func (s *Set) readFile(from found, stdin io.Reader) error {
	file, reader := from.name, stdin
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return err
		}
		defer opened.Close()
		reader = opened
	}
	content, err := io.ReadAll(io.LimitReader(reader, maxFile+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	s.Files++
	if len(content) > maxFile {
		s.problem(file, 1, fmt.Sprintf("the file must be at most %d bytes long", maxFile))
		return nil
	}
	if !utf8.Valid(content) || bytes.IndexByte(content, 0) >= 0 {
		s.problem(file, 1, "the file must be text in UTF-8: it is binary, or in another encoding such as UTF-16")
		return nil
	}
	if from.maybe && !bytes.Contains(content, []byte(`"apiVersion"`)) && !bytes.Contains(content, []byte(`"kind"`)) {
		s.Others++
		return nil
	}
	for _, part := range split(bytes.TrimPrefix(content, byteOrderMark)) {
		for _, one := range objectsOf(part) {
			s.readDocument(file, one)
		}
	}
	return nil
}

// byteOrderMark is what some editors begin a file with.
var byteOrderMark = []byte("\uFEFF")

func (s *Set) problem(file string, line int, message string) {
	s.Problems = append(s.Problems, Problem{At: Position{File: file, Line: line}, Message: message})
}

// document is one document of a file.
type document struct {
	text []byte
	line int // of its first line, from 0
}

var documentMarker = regexp.MustCompile(`^(---|\.\.\.)(\s|$)`)

// split cuts a file where a line begins with '---' or '...'.
func split(content []byte) []document {
	current := document{}
	var all []document
	for number, line := range bytes.SplitAfter(content, []byte("\n")) {
		if !documentMarker.Match(line) {
			current.text = append(current.text, line...)
			continue
		}
		all = append(all, current)
		current = document{text: append([]byte("   "), line[3:]...), line: number}
	}
	return append(all, current)
}

// objectsOf takes apart JSON objects that stand one after the other, as kubectl does. What is no
// JSON is left to be read as YAML.
func objectsOf(part document) []document {
	var all []document
	for {
		rest := bytes.TrimLeft(part.text, " \t\r\n")
		if !bytes.HasPrefix(rest, []byte("{")) {
			break
		}
		decoder := json.NewDecoder(bytes.NewReader(part.text))
		var one json.RawMessage
		if err := decoder.Decode(&one); err != nil {
			break
		}
		end := decoder.InputOffset()
		all = append(all, document{text: part.text[:end], line: part.line})
		part = document{text: part.text[end:], line: part.line + bytes.Count(part.text[:end], []byte("\n"))}
	}
	return append(all, part)
}

func (s *Set) readDocument(file string, part document) {
	root := &yaml.Node{}
	if err := yaml.Unmarshal(part.text, root); err != nil {
		line, message := yamlProblem(err, part.line)
		s.problem(file, line, message+templateHint(part.text))
		return
	}
	if root.Kind == 0 || len(root.Content) == 0 || root.Content[0].Tag == "!!null" {
		return
	}
	shift(root, part.line, map[*yaml.Node]bool{})
	top := root.Content[0]
	// Kubernetes reads YAML by this library, which knows other words for true and false.
	text, err := sigsyaml.YAMLToJSONStrict(part.text)
	if err != nil {
		line, message := yamlProblem(err, part.line)
		s.problem(file, max(line, 1), message+templateHint(part.text))
		return
	}
	var content any
	if err := utiljson.Unmarshal(text, &content); err != nil {
		s.problem(file, top.Line, err.Error())
		return
	}
	s.add(file, top, content)
}

// add takes an object down, and those of a list one by one.
func (s *Set) add(file string, node *yaml.Node, content any) {
	fields, ok := content.(map[string]any)
	object := &Object{Content: fields, file: file, node: node}
	if ok {
		object.APIVersion, _ = fields["apiVersion"].(string)
		object.Kind, _ = fields["kind"].(string)
	}
	if !object.IsFirebreak() && (object.Kind == "" || object.APIVersion == "") {
		s.Others++
		return
	}
	if items, is := fields["items"].([]any); is && strings.HasSuffix(object.Kind, "List") {
		list, _ := child(node, segment{name: "items"})
		for i, item := range items {
			if one, found := child(list, segment{index: i, isIndex: true}); found {
				s.add(file, one, object.typed(item))
			}
		}
		return
	}
	metadata, _ := fields["metadata"].(map[string]any)
	object.Name, _ = metadata["name"].(string)
	object.Namespace, _ = metadata["namespace"].(string)
	s.Objects = append(s.Objects, object)
}

// typed gives an item of a list what it is, where it does not say so itself and the list does.
func (o *Object) typed(item any) any {
	fields, ok := item.(map[string]any)
	if kind := strings.TrimSuffix(o.Kind, "List"); ok && kind != "" && fields["kind"] == nil && fields["apiVersion"] == nil {
		fields["kind"], fields["apiVersion"] = kind, o.APIVersion
	}
	return item
}

// shift moves the lines of a document to where it stands in its file.
func shift(node *yaml.Node, lines int, done map[*yaml.Node]bool) {
	if node == nil || done[node] {
		return
	}
	done[node] = true
	node.Line += lines
	for _, inner := range node.Content {
		shift(inner, lines, done)
	}
}

// templateHint is what helps where a document looks like a template.
func templateHint(text []byte) string {
	if bytes.Contains(text, []byte("{{")) {
		return ". A template must be rendered first, such as by 'helm template'"
	}
	return ""
}

var yamlLine = regexp.MustCompile(`^(?:error converting YAML to JSON: )?yaml: (?:unmarshal errors:\n\s*)?(?:line (\d+): )?`)

// yamlProblem says where in the file YAML is wrong.
func yamlProblem(err error, shifted int) (line int, message string) {
	message, line = err.Error(), 1
	var typeError *yaml.TypeError
	if errors.As(err, &typeError) && len(typeError.Errors) > 0 {
		message = "yaml: " + typeError.Errors[0]
	}
	if match := yamlLine.FindStringSubmatch(message); match != nil {
		if number, err := strconv.Atoi(match[1]); err == nil {
			line = number
		}
		message = message[len(match[0]):]
	}
	return line + shifted, "this is not YAML: " + strings.TrimSpace(message)
}
