package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/firebreak-dev/firebreak/internal/action"
)

// egressOptions say what may leave the cluster.
type egressOptions struct {
	allow  string
	deny   string
	caFile string
}

func (o *egressOptions) bind(flags *flag.FlagSet) {
	flags.StringVar(&o.allow, "egress-allow", "", "the hosts that playbooks and the plans' channels may reach, with TLS only, separated by commas: 'host', 'host:port' or '*.suffix'; without a port it is 443; empty allows none")
	flags.StringVar(&o.deny, "egress-deny", "", "networks that no such host may resolve to, separated by commas, such as those of pods and Services: '10.96.0.0/12'; loopback, link-local and metadata addresses are always refused, unless --egress-allow names the address itself")
	flags.StringVar(&o.caFile, "egress-ca-file", "", "a file with the certificate authorities, as PEM, that may vouch for these hosts; empty means the system's")
}

func (o *egressOptions) open() (*action.Egress, error) {
	options := action.EgressOptions{Allow: list(o.allow), Deny: list(o.deny)}
	if o.caFile != "" {
		content, err := os.ReadFile(o.caFile)
		if err != nil {
			return nil, fmt.Errorf("--egress-ca-file: %w", err)
		}
		options.RootCAs = content
	}
	egress, err := action.NewEgress(options)
	if err != nil {
		return nil, fmt.Errorf("--egress-allow, --egress-deny, --egress-ca-file: %w", err)
	}
	return egress, nil
}

// list parts what is separated by commas.
func list(text string) []string {
	var parts []string
	for _, part := range strings.Split(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}
