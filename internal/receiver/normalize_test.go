package receiver

import (
	"testing"
)

func TestNormalized(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"22:09:57.827858816: shell by pid=4711 in d34690e67a3a", "23:10:01.1: shell by pid=9 in 0123456789ab", true},
		{"at 2026-11-21T16:00:00Z uuid 5f0c8a2e-0000-4000-8000-00000000000a", "at 2026-11-22 17:00:00.5 +01:00 uuid 6f0c8a2e-0000-4000-8000-00000000000b", true},
		{"image sha256:aaaa1 digest deadbeefdeadbeef", "image sha256:bbbb2 digest cafebabecafebabe", true},
		{"request id: 83af took long (process 1234567)", "request id: 17 took long (process 7654321)", true},
		{"address 0x7fff12 \t twice", "address 0x1 twice", true},
		{"connect to 10.0.0.1:443", "connect to 10.0.0.2:443", false},
		{"connect to 10.0.0.1:443", "connect to 10.0.0.1:80", false},
		{"read /etc/shadow", "read /etc/passwd", false},
		{"postgres 14.2", "postgres 15.1", false},
		{"pod cart-1", "pod cart-2", false},
		{"user eve", "user bob", false},
	} {
		if got := normalized(test.a) == normalized(test.b); got != test.same {
			t.Errorf("%q and %q: same %t, want %t (%q, %q)", test.a, test.b, got, test.same, normalized(test.a), normalized(test.b))
		}
	}
}

// TestMachinesReportsWithoutFingerprint are repeats when they differ in what passes only.
func TestMachinesReportsWithoutFingerprint(t *testing.T) {
	fingerprint := func(body string) string {
		t.Helper()
		what, err := nativeFormat{}.parse(testReport([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		return what.alerts[0].spec.Fingerprint
	}
	base := fingerprint(`{"source":{"product":"scanner","rule":"r"},"title":"odd process pid=17","severity":"Low"}`)
	if again := fingerprint(`{"source":{"product":"scanner","rule":"r"},"title":"odd process pid=4711","severity":"Low","observedTime":"2026-11-21T16:00:00Z"}`); again != base || base == "" {
		t.Errorf("fingerprints %q and %q, want the same", base, again)
	}
	for name, body := range map[string]string{
		"other text":     `{"source":{"product":"scanner","rule":"r"},"title":"another process pid=17","severity":"Low"}`,
		"other severity": `{"source":{"product":"scanner","rule":"r"},"title":"odd process pid=17","severity":"High"}`,
		"other place":    `{"source":{"product":"scanner","rule":"r","instance":"node-2"},"title":"odd process pid=17","severity":"Low"}`,
		"other asset":    `{"source":{"product":"scanner","rule":"r"},"title":"odd process pid=17","severity":"Low","assets":[{"type":"Device","identifier":"x"}]}`,
	} {
		if fingerprint(body) == base {
			t.Errorf("%s: the fingerprint is the same", name)
		}
	}
	for name, body := range map[string]string{
		"a person": `{"source":{"kind":"Human","product":"scanner"},"title":"t","severity":"Low"}`,
		"nobody":   `{"title":"t","severity":"Low"}`,
	} {
		if got := fingerprint(body); got != "" {
			t.Errorf("%s: fingerprint %q, want none", name, got)
		}
	}
}
