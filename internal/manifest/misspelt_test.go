package manifest

import "testing"

func TestMisspelt(t *testing.T) {
	for name, test := range map[string]struct {
		known []string
		want  string
	}{
		"kontain":             {[]string{"other", "contain"}, "contain"},
		"cotnain":             {[]string{"contain"}, "contain"},
		"contain":             {[]string{"contain"}, ""},
		"contain-v2":          {[]string{"contain-v1"}, ""},
		"contain-prod":        {[]string{"contain-dev"}, ""},
		"firebreak-responder": {[]string{"firebreak-responder-pods"}, ""},
		"contain-pods":        {[]string{"contain"}, ""},
		"firebreak-manager":   {[]string{"firebreak-reader"}, ""},
	} {
		if got := Misspelt(name, test.known); got != test.want {
			t.Errorf("%s: got %q of %q, want %q", name, got, test.known, test.want)
		}
	}
}
