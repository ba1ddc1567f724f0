package receiver

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/utils/clock"

	"github.com/go-logr/logr"
)

const (
	authenticatedGroup = "system:authenticated"
	// reservedPrefix is of names that only Kubernetes gives.
	reservedPrefix = "system:"
	// rereadEvery is how often the file of the authorities is looked at, at most.
	rereadEvery = 5 * time.Second
	// maxGroups bounds what a certificate can make the API server look at.
	maxGroups = 64
)

// authorities are who may sign the certificates of senders: a PEM file, read again when it
// changes. A nil one is nobody.
type authorities struct {
	path  string
	clock clock.Clock
	log   logr.Logger

	mutex   sync.Mutex
	content []byte
	pool    *x509.CertPool
	read    time.Time
}

func newAuthorities(path string, c clock.Clock, log logr.Logger) (*authorities, error) {
	a := &authorities{path: path, clock: c, log: log, read: c.Now()}
	return a, a.reload()
}

func (a *authorities) reload() error {
	content, err := os.ReadFile(a.path)
	if err != nil {
		return err
	}
	if bytes.Equal(content, a.content) {
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return fmt.Errorf("%s must hold at least one certificate in PEM", a.path)
	}
	a.content, a.pool = content, pool
	return nil
}

// current is the pool as the file has it now, or had it last when it cannot be read.
func (a *authorities) current() *x509.CertPool {
	if a == nil {
		return nil
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if now := a.clock.Now(); now.Sub(a.read) >= rereadEvery {
		a.read = now
		if err := a.reload(); err != nil {
			a.log.Error(err, "the authorities of client certificates cannot be read again: the last ones count")
		}
	}
	return a.pool
}

// verify checks a certificate again, because a connection may be older than a change of the
// file, or the certificate have ended since.
func (a *authorities) verify(certificate *x509.Certificate, intermediates []*x509.Certificate) error {
	if a == nil {
		return errors.New("this receiver takes no client certificates")
	}
	between := x509.NewCertPool()
	for _, other := range intermediates {
		between.AddCert(other)
	}
	_, err := certificate.Verify(x509.VerifyOptions{
		Roots: a.current(), Intermediates: between, CurrentTime: a.clock.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}

// user is the Kubernetes user of a certificate: its common name, or else its only URI; its
// organizations are the groups. Names that only Kubernetes gives are refused.
func (a *authorities) user(c *credential) (*authenticationv1.UserInfo, *Problem) {
	if err := a.verify(c.certificate, c.intermediates); err != nil {
		return nil, unauthenticated("The client certificate must be signed for clients by an authority of the receiver's --client-ca-file, and be valid now: " + err.Error())
	}
	subject := c.certificate.Subject
	name, groups := subject.CommonName, subject.Organization
	if name == "" && len(c.certificate.URIs) == 1 {
		name = c.certificate.URIs[0].String()
	}
	switch {
	case name == "":
		return nil, unauthenticated("The client certificate must name the sender in its common name, or in its only URI.")
	case clean(name, maxName) != name:
		return nil, unauthenticated(fmt.Sprintf("The client certificate's name must be at most %d printable characters.", maxName))
	case len(groups) > maxGroups:
		return nil, unauthenticated(fmt.Sprintf("The client certificate must have at most %d organizations, has %d.", maxGroups, len(groups)))
	}
	for _, reserved := range append([]string{name}, groups...) {
		if strings.HasPrefix(reserved, reservedPrefix) {
			return nil, unauthenticated("The client certificate's common name and organizations must not begin with 'system:': such names are Kubernetes' own.")
		}
	}
	return &authenticationv1.UserInfo{Username: name, Groups: append([]string{authenticatedGroup}, groups...)}, nil
}
