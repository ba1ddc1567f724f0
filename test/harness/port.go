package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// Ports that FreeAddress gives. They lie below those that a kernel gives to who names none,
// so that one stays free until it is used, also while a process that was killed is started
// again.
const firstPort, ports = 20000, 10000

// given are the addresses that this process has given.
var given sync.Map

// FreeAddress gives an address of this machine that nobody listens on, each once.
func FreeAddress(t testing.TB) string {
	t.Helper()
	address, err := freeAddress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func freeAddress(ctx context.Context) (string, error) {
	for range ports {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(ports))
		if _, taken := given.LoadOrStore(address, true); taken {
			continue
		}
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err == nil {
			return address, listener.Close()
		}
	}
	return "", errors.New("no port is free")
}
