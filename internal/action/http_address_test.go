package action

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReachable(t *testing.T) {
	egress, err := NewEgress(EgressOptions{Deny: []string{"10.96.0.0/12"}})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]bool{
		"203.0.113.7:443": true, "192.168.1.1:443": true, "[2001:db8::1]:443": true, "10.1.0.1:443": true,
		"127.0.0.1:443": false, "127.8.8.8:443": false, "0.0.0.0:443": false, "169.254.169.254:443": false, "[::1]:443": false, "[::]:443": false,
		"[fe80::1%eth0]:443": false, "[::ffff:127.0.0.1]:443": false, "[64:ff9b::a9fe:a9fe]:443": false, "10.96.0.1:443": false, "10.111.255.255:443": false,
		"168.63.129.16:443": false, "100.100.100.200:443": false, "[fd00:ec2::254]:443": false, "224.0.0.1:443": false, "255.255.255.255:443": false, "x": false,
	} {
		if got := egress.reachable(address) == nil; got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}

// What an expression sees of an answer is the same each time.
func TestResponseOfManyHeaders(t *testing.T) {
	answer := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}}
	var want []string
	for i := range 100 {
		name := fmt.Sprintf("x-%02d", i)
		answer.Header.Set(name, "y")
		if i < 64 {
			want = append(want, name)
		}
	}
	headers, _ := responseOf(answer, nil)["headers"].(map[string]any)
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(headers))); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}
