package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWithoutWorkloads(t *testing.T) {
	const rendered = `apiVersion: v1
kind: ServiceAccount
metadata: {name: manager}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: manager}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: receiver}
---
apiVersion: v1
kind: Namespace
metadata: {name: system}
---
# kind: Deployment is only a comment here
apiVersion: v1
kind: ConfigMap
metadata: {name: Deployment}
`
	const want = `---
apiVersion: v1
kind: Namespace
metadata: {name: system}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: manager}
---
# kind: Deployment is only a comment here
apiVersion: v1
kind: ConfigMap
metadata: {name: Deployment}
`
	got, err := withoutWorkloads([]byte(rendered))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("withoutWorkloads() (-want +got):\n%s", diff)
	}
}

func TestRunRefusesUnknownCommands(t *testing.T) {
	for _, args := range [][]string{nil, {"sideways"}} {
		t.Chdir(t.TempDir())
		if err := run(t.Context(), args, t.Output()); err == nil || !strings.Contains(err.Error(), "must be up or down") {
			t.Errorf("run(%v) = %v, want an error that names up and down", args, err)
		}
	}
}
