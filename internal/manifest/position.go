package manifest

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// segment is one step of a path: a field, or an item of a list.
type segment struct {
	name    string
	index   int
	isIndex bool
}

// At gives where a field stands, by its path such as 'spec.rules[0].match',
// 'spec.rules[shell].match' or 'spec.attributes[proc.name]'. Where the file has no such field, it is the nearest one
// around it.
func (o *Object) At(path string) Position {
	node := o.node
	line, column := node.Line, node.Column
	for _, next := range segments(path) {
		key, value := entry(node, next)
		if value == nil {
			break
		}
		node = value
		line, column = key.Line, key.Column
	}
	return Position{File: o.file, Line: line, Column: column}
}

// Start is where the object begins.
func (o *Object) Start() Position { return o.At("") }

// segments cuts a path. What is in brackets is an index where it is a number.
func segments(path string) []segment {
	var all []segment
	for path != "" {
		switch path[0] {
		case '.':
			path = path[1:]
		case '[':
			end := strings.IndexByte(path, ']')
			if end < 0 {
				return append(all, segment{name: path})
			}
			name := strings.Trim(path[1:end], `"`)
			index, err := strconv.Atoi(name)
			all = append(all, segment{name: name, index: index, isIndex: err == nil})
			path = path[end+1:]
		default:
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			all = append(all, segment{name: path[:end]})
			path = path[end:]
		}
	}
	return all
}

// Names gives a path as names, '[]' for each item of a list.
func Names(path string) []string {
	var names []string
	for _, one := range segments(path) {
		if one.isIndex {
			names = append(names, "[]")
		} else {
			names = append(names, one.name)
		}
	}
	return names
}

func child(node *yaml.Node, next segment) (*yaml.Node, bool) {
	_, value := entry(node, next)
	return value, value != nil
}

// entry finds a field or an item; the key of an item is the item.
func entry(node *yaml.Node, next segment) (key, value *yaml.Node) {
	for node != nil && node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch {
	case node == nil:
	case node.Kind == yaml.SequenceNode && next.isIndex && next.index >= 0 && next.index < len(node.Content):
		return node.Content[next.index], node.Content[next.index]
	case node.Kind == yaml.SequenceNode:
		for _, item := range node.Content {
			if name, found := child(item, segment{name: "name"}); found && name.Value == next.name {
				return item, item
			}
		}
	case node.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == next.name {
				return node.Content[i], node.Content[i+1]
			}
		}
	}
	return nil, nil
}
