package receiver

import (
	"net"
	"testing"

	"github.com/go-logr/logr"
)

// TestConnectionsAreBounded opens more connections from one address than it may.
func TestConnectionsAreBounded(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := limited(listener, 4, 3, logr.Discard())
	defer l.Close()
	accepted := make(chan net.Conn, 10)
	go func() {
		for {
			connection, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- connection
		}
	}()
	dial := func() net.Conn {
		t.Helper()
		connection, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = connection.Close() })
		return connection
	}
	var held []net.Conn
	for range 3 {
		dial()
		held = append(held, <-accepted)
	}
	if _, err := dial().Read(make([]byte, 1)); err == nil {
		t.Error("the fourth connection is open, want it closed")
	}
	if !l.enter("192.0.2.1") || l.enter("192.0.2.2") {
		t.Error("there must be room for one from another address, and for no second")
	}
	l.leave("192.0.2.1")
	for _, connection := range held {
		_ = connection.Close()
		_ = connection.Close() // twice makes no room twice
	}
	l.mutex.Lock()
	if l.connections != 0 || len(l.connectionsOfOrigin) != 0 {
		t.Errorf("left behind: %d, %v", l.connections, l.connectionsOfOrigin)
	}
	l.mutex.Unlock()
	dial()
	_ = (<-accepted).Close()
}
