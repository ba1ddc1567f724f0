package receiver

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestNativeProblems says which field is wrong, with its place in a list and its key.
func TestNativeProblems(t *testing.T) {
	const begin = `{"title":"a","severity":"Low",`
	for body, want := range map[string]FieldProblem{
		begin + `"resources":[{"name":true}]}`:                               {"#/resources/0/name", "must be a string, is a boolean"},
		begin + `"resources":[{"kind":"Node","name":"n"},{"name":7}]}`:       {"#/resources/1/name", "must be a string, is a number"},
		begin + `"resources":["a"]}`:                                         {"#/resources/0", "must be an object, is a string"},
		begin + `"resources":{}}`:                                            {"#/resources", "must be a list, is an object"},
		begin + `"resources" : [ { "kind" : "Node" , "name" : [ ] } ] }`:     {"#/resources/0/name", "must be a string, is a list"},
		begin + `"attributes":{"pid":5}}`:                                    {"#/attributes/pid", "must be a string, is a number"},
		begin + `"attributes":{"a.b":"x","c/d.e~":{}}}`:                      {"#/attributes/c~1d.e~0", "must be a string, is an object"},
		begin + `"observedTime":""}`:                                         {"#/observedTime", "must be a time such as '2026-11-21T16:00:00Z', is ''"},
		begin + `"observedTime":"<NA>"}`:                                     {"#/observedTime", "must be a time such as '2026-11-21T16:00:00Z', is '<NA>'"},
		begin + `"observedTime":7}`:                                          {"#/observedTime", "must be a string, is a number"},
		begin + `"source":"falco"}`:                                          {"#/source", "must be an object, is a string"},
		`[` + begin + `"mode":"Live"},` + begin + `"attacks":[{},[]]}]`:      {"#/1/attacks/1", "must be an object, is a list"},
		`{"kind":"SecurityEvent","spec":` + begin + `"attributes":{"p":5}}}`: {"#/spec/attributes/p", "must be a string, is a number"},
	} {
		_, err := nativeFormat{}.parse(testReport([]byte(body)))
		if err == nil {
			t.Errorf("%s: no error", body)
			continue
		}
		if diff := cmp.Diff([]FieldProblem{want}, asProblem(err).Errors); diff != "" {
			t.Errorf("%s: the problem differs (-want +got):\n%s", body, diff)
		}
	}
}
