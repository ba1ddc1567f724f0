package receiver
import ("strings";"github.com/go-logr/logr")
func stringsReader(s string) *strings.Reader { return strings.NewReader(s) }
func (s *site) logr() logr.Logger { return logr.Discard() }
