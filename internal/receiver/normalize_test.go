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
		{"req=10.0.0.5 denied", "req=11.0.0.5 denied", false},
		{"session 10.0.0.5 opened", "session 10.0.0.6 opened", false},
		{"request fe80::1 denied", "request fd80::1 denied", false},
		{"read /etc/shadow", "read /etc/passwd", false},
		{"postgres 14.2", "postgres 15.1", false},
		{"pod cart-1", "pod cart-2", false},
		{"user eve", "user bob", false},

		{"exec at 1690409397.827", "exec at 1690409398.113", true},
		{"msg=audit(1690409397.827:12345): shell", "msg=audit(1690409398.113:12399): shell", true},
		{"[12345.678901] cart: segfault", "[    5.678902] cart: segfault", true},
		{`shell pid="4242"`, `shell pid="17"`, true},
		{`shell pid='4242'`, `shell pid='17'`, true},
		{`{"pid":"4242"}`, `{"pid":"17"}`, true},
		{"process 4242 opened it", "process 17 opened it", true},
		{"process id 4242 opened it", "process id 17 opened it", true},
		{"sshd[4242]: failed", "sshd[817]: failed", true},
		{"sshd[4242]: failed", "cron[4242]: failed", false},
		{"spec.containers[0]: runs as root", "spec.containers[1]: runs as root", false},
		{"shell 20261120T120000Z", "shell 20261121T130500.5+0100", true},
		{"trace 01J9ZQ3K8N5W7X2Y4V6B8M0C1D", "trace 01J9ZQ3K8N5W7X2Y4V6B8M0C1E", true},
		{"shell at 16:05 in cart", "shell at 17:10 in cart", true},
		{"16:05 shell", "17:10 shell", true},
		{"shell since 16:05.", "shell since 17:10.", true},
		{"shell (16:05 UTC)", "shell (17:10 UTC)", true},
		{"shell 4:05 PM", "shell 5:10 PM", true},
		{"listens at 10:22:33:44:55:66", "listens at 11:22:33:44:55:66", false},
		{"listens at 10:22::1", "listens at 11:22::1", false},
		{"-p 22:22", "-p 21:21", false},
		{"ports 10:22", "ports 11:23", false},
		{"listens at host:16", "listens at host:17", false},
		{"seen from 10.0.0.10:22 UTC", "seen from 10.0.0.11:23 UTC", false},
		{"connect to 10.0.0.1:8080", "connect to 10.0.0.1:9090", false},
		{"connect to 2001:db8:10:20:30::1", "connect to 2001:db8:11:21:31::1", false},
		{"connect to ::10:20:30", "connect to ::11:21:31", false},
		{"connect to 2001:db8:0:0:10:20:30:40", "connect to 2001:db8:0:0:11:21:31:40", false},
		{"interface 00:11:22:33:44:55", "interface 00:11:22:33:44:56", false},
		{"interface 00:11:22:33:44:55", "interface 10:11:22:33:44:55", false},
		{"image nginx:1.25", "image nginx:1.26", false},
		{"exploit of CVE-2021-44228", "exploit of CVE-2021-45046", false},
		{"exploit of CVE-2024-1000001", "exploit of CVE-2024-1000002", false},
		{"technique T1059", "technique T1053", false},
		{"technique T1059.001", "technique T1059.003", false},
		{"Windows event ID 4625 on dc1", "Windows event ID 1102 on dc1", false},
		{"event=4625", "event=1102", false},
		{"event 1690409397", "event 1690409398", true},
		{"request 403 of bob", "request 200 of bob", false},
		{"request=83af of bob", "request=17 of bob", true},
		{"session 42 of bob", "session 4242 of bob", true},
		{"account 111122223333", "account 444455556666", false},
		{`"accountId": "111122223333"`, `"accountId": "444455556666"`, false},
		{"role arn:aws:iam::111122223333:role/admin", "role arn:aws:iam::444455556666:role/admin", false},
		{"object 111122223333", "object 444455556666", true},
	} {
		if got := normalized(test.a) == normalized(test.b); got != test.same {
			t.Errorf("%q and %q: same %t, want %t (%q, %q)", test.a, test.b, got, test.same, normalized(test.a), normalized(test.b))
		}
	}
}

// FuzzNormalized checks that what passes is gone after one look, and that no text is too odd.
func FuzzNormalized(f *testing.F) {
	for _, text := range []string{"", "shell at 16:05 pid='7'", "audit(1690409397.827:12345): 2001:db8::1", "account 111122223333 \xff"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if one, two := normalized("at 2026-11-21T16:00:00Z "+text), normalized("at 2026-11-22T17:01:02.5Z "+text); one != two {
			t.Errorf("%q is %q or %q, by the time before it", text, one, two)
		}
	})
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
