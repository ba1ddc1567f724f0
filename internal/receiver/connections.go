package receiver

import (
	"net"
	"sync"

	"github.com/go-logr/logr"
)

// maxConnections is how many connections are open at a time, and connectionsPerAddress those
// from one address: each holds buffers, before anybody knows who is at its other end.
const maxConnections, connectionsPerAddress = 2048, maxConnections / 4 * 3

// limitedListener closes connections that are too many at once: waiting would keep all senders
// out for as long as somebody holds connections that do nothing.
type limitedListener struct {
	net.Listener
	log                 logr.Logger
	most, mostOfOne     int
	mutex               sync.Mutex
	connections         int
	connectionsOfOrigin map[string]int
}

func limited(l net.Listener, most, mostOfOne int, log logr.Logger) *limitedListener {
	return &limitedListener{Listener: l, log: log, most: most, mostOfOne: mostOfOne, connectionsOfOrigin: map[string]int{}}
}

// Accept gives the next connection for which there is room.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		connection, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		origin := connection.RemoteAddr().String()
		if host, _, err := net.SplitHostPort(origin); err == nil {
			origin = host
		}
		if l.enter(origin) {
			return &limitedConnection{Conn: connection, leave: sync.OnceFunc(func() { l.leave(origin) })}, nil
		}
		l.log.V(1).Info("closed a connection: too many are open", "from", origin)
		_ = connection.Close()
	}
}

func (l *limitedListener) enter(origin string) bool {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.connections >= l.most || l.connectionsOfOrigin[origin] >= l.mostOfOne {
		return false
	}
	l.connections++
	l.connectionsOfOrigin[origin]++
	return true
}

func (l *limitedListener) leave(origin string) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.connections--
	if l.connectionsOfOrigin[origin]--; l.connectionsOfOrigin[origin] == 0 {
		delete(l.connectionsOfOrigin, origin)
	}
}

// limitedConnection makes room when it is closed.
type limitedConnection struct {
	net.Conn
	leave func()
}

// Close closes the connection.
func (c *limitedConnection) Close() error {
	c.leave()
	return c.Conn.Close()
}
