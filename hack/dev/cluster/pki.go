package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const validity = 365 * 24 * time.Hour

// Authority signs certificates. Its files are DIR/NAME.crt and DIR/NAME.key.
type Authority struct {
	dir         string
	name        string
	certificate *x509.Certificate
	key         crypto.Signer
}

// Pair names the files of a certificate and its key.
type Pair struct {
	Certificate string
	Key         string
}

// OpenAuthority loads the authority of that name in dir, or creates it.
func OpenAuthority(dir, name string) (*Authority, error) {
	a := &Authority{dir: dir, name: name}
	files := a.pair(name)
	if !files.exist() {
		template := &x509.Certificate{
			Subject:               pkix.Name{CommonName: "firebreak-dev-" + name},
			KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
			BasicConstraintsValid: true,
			IsCA:                  true,
		}
		if err := a.sign(template, files); err != nil {
			return nil, fmt.Errorf("creating the authority %s: %w", name, err)
		}
	}
	loaded, err := tls.LoadX509KeyPair(files.Certificate, files.Key)
	if err != nil {
		return nil, fmt.Errorf("loading the authority %s: %w", name, err)
	}
	var ok bool
	if a.key, ok = loaded.PrivateKey.(crypto.Signer); !ok {
		return nil, fmt.Errorf("loading the authority %s: its key cannot sign", name)
	}
	a.certificate = loaded.Leaf
	return a, nil
}

// CertificateFile is the path of the authority's own certificate.
func (a *Authority) CertificateFile() string { return a.pair(a.name).Certificate }

// Serving issues a certificate for servers on loopback, which may also present
// it as a client, unless its files exist.
func (a *Authority) Serving(name string, dnsNames ...string) (Pair, error) {
	return a.issue(name, &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		DNSNames:    append([]string{"localhost"}, dnsNames...),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

// Client issues a client certificate for a user and groups, unless its files exist.
func (a *Authority) Client(name, user string, groups ...string) (Pair, error) {
	return a.issue(name, &x509.Certificate{
		Subject:     pkix.Name{CommonName: user, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func (a *Authority) issue(name string, template *x509.Certificate) (Pair, error) {
	files := a.pair(name)
	if files.exist() {
		return files, nil
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	if err := a.sign(template, files); err != nil {
		return Pair{}, fmt.Errorf("issuing the certificate %s: %w", name, err)
	}
	return files, nil
}

// sign writes the certificate last: where it is, its key is too.
func (a *Authority) sign(template *x509.Certificate, files Pair) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return err
	}
	template.NotBefore = time.Now().Add(-time.Minute)
	template.NotAfter = time.Now().Add(validity)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return err
	}
	if err := writeKey(files.Key, key); err != nil {
		return err
	}
	return writePEM(files.Certificate, "CERTIFICATE", der)
}

func (a *Authority) pair(name string) Pair {
	return Pair{Certificate: filepath.Join(a.dir, name+".crt"), Key: filepath.Join(a.dir, name+".key")}
}

func (p Pair) exist() bool {
	_, err := os.Stat(p.Certificate)
	return err == nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// pki is everything the control plane identifies itself and others by.
type pki struct {
	*Authority
	serving, kubelet, admin       Pair
	controllerManager, scheduler  Pair
	kwok                          Pair
	serviceAccountPublic, private string
}

func openPKI(dir string) (*pki, error) {
	authority, err := OpenAuthority(dir, "ca")
	if err != nil {
		return nil, err
	}
	p := &pki{
		Authority:            authority,
		serviceAccountPublic: filepath.Join(dir, "service-account.pub"),
		private:              filepath.Join(dir, "service-account.key"),
	}
	if p.serving, err = p.Serving("serving", "kubernetes", "kubernetes.default", "kubernetes.default.svc"); err != nil {
		return nil, err
	}
	for _, client := range []struct {
		pair              *Pair
		name, user, group string
	}{
		{&p.kubelet, "kubelet-client", "kube-apiserver-kubelet-client", "system:masters"},
		{&p.admin, "admin", "admin", "system:masters"},
		{&p.controllerManager, "kube-controller-manager", "system:kube-controller-manager", "firebreak-dev"},
		{&p.scheduler, "kube-scheduler", "system:kube-scheduler", "firebreak-dev"},
		// It plays every kubelet, and deletes pods as none may.
		{&p.kwok, "kwok", "kwok", "system:masters"},
	} {
		if *client.pair, err = p.Client(client.name, client.user, client.group); err != nil {
			return nil, err
		}
	}
	return p, p.serviceAccountKeys()
}

func (p *pki) serviceAccountKeys() error {
	if _, err := os.Stat(p.serviceAccountPublic); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := writeKey(p.private, key); err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return writePEM(p.serviceAccountPublic, "PUBLIC KEY", der)
}
