package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
)

// Below the ranges from which Linux and macOS take ports for outgoing
// connections, so that none of those can take a port between its choice and its use.
const (
	firstPort = 20000
	lastPort  = 31999
)

// ports gives every name a free loopback port and remembers it in a file, so
// that what is restarted comes back where others expect it.
type ports struct {
	file string
	byID map[string]int
}

func openPorts(file string) (*ports, error) {
	p := &ports{file: file, byID: map[string]int{}}
	content, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(content, &p.byID); err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return p, nil
}

func (p *ports) get(name string) (int, error) {
	if port, ok := p.byID[name]; ok {
		return port, nil
	}
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort+1) //nolint:gosec // no secret: only unlikely to be chosen by two at once
		if p.taken(port) || !free(port) {
			continue
		}
		p.byID[name] = port
		content, err := json.Marshal(p.byID)
		if err != nil {
			return 0, err
		}
		return port, os.WriteFile(p.file, content, 0o600)
	}
	return 0, fmt.Errorf("no free port for %s between %d and %d on 127.0.0.1", name, firstPort, lastPort)
}

func (p *ports) taken(port int) bool {
	for _, other := range p.byID {
		if other == port {
			return true
		}
	}
	return false
}

// url is of a port that get has given before.
func (p *ports) url(name string) string {
	return "https://" + address(p.byID[name])
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func free(port int) bool {
	listener, err := net.Listen("tcp", address(port))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
