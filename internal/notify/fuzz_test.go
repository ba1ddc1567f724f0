package notify

import (
	"strings"
	"testing"
	"time"
)

// FuzzOpen never panics on a URL, and a message's title never becomes two lines.
func FuzzOpen(f *testing.F) {
	for name, shape := range shapes {
		f.Add(shape, name)
		f.Add(name+"://dummy@dummy.com", "a\nb")
		f.Add(name+"://?&=&@&$", "@x")
		f.Add(name+"+https://x/%zz?@a=b&$c=d", "")
	}
	f.Fuzz(func(t *testing.T, raw, text string) {
		if service, err := Open(raw); (service == nil) == (err == nil) {
			t.Errorf("%v, %v", service, err)
		}
		if message := NewMessage(text, text, "", time.Time{}); strings.ContainsAny(message.Title, "\r\n\x00\x1b") || strings.ContainsAny(message.Text, "\r\x00\x1b") {
			t.Errorf("%q", message)
		}
	})
}
