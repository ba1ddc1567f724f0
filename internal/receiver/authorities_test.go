package receiver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// authority signs certificates.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	signed := a.sign(template)
	a.certificate, a.key = signed.Leaf, signed.PrivateKey.(*ecdsa.PrivateKey)
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed.Leaf.Raw}))
	return a
}

// sign completes a certificate and signs it, as the authority or by itself.
func (a *authority) sign(template *x509.Certificate) tls.Certificate {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// client makes a client certificate, after a change of it.
func (a *authority) client(name string, change func(*x509.Certificate)) tls.Certificate {
	a.t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if change != nil {
		change(template)
	}
	return a.sign(template)
}

// certified is a receiver that takes client certificates, and who may report by one.
func certified(t *testing.T, caFile, user string) *site {
	t.Helper()
	s := newSite(t)
	folder := t.TempDir()
	options := ServerOptions{
		Options: Options{Name: "r0", ClientCAFile: caFile}, BindAddress: freeAddress(t), HealthProbeBindAddress: freeAddress(t),
		CertificateFile: filepath.Join(folder, "tls.crt"), PrivateKeyFile: filepath.Join(folder, "tls.key"),
	}
	s.url, s.http, s.token = "https://"+options.BindAddress, options.certificate(t), ""
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, s.config, options) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Serve ended with %v, want nil", err)
		}
	})
	s.eventually("the receiver is ready", func() bool { return probeStatus(options.HealthProbeBindAddress, "readyz") == http.StatusOK })
	s.create(&rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: "certified"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "falco"},
		Subjects: []rbacv1.Subject{
			{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user},
			{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "sensors"},
		},
	})
	return s
}

// with shows a certificate from now on.
func (s *site) with(certificate *tls.Certificate) {
	s.t.Helper()
	transport := s.http.Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.Certificates = nil
	if certificate != nil {
		transport.TLSClientConfig.Certificates = []tls.Certificate{*certificate}
	}
	s.http = &http.Client{Transport: transport}
}

func TestClientCertificates(t *testing.T) {
	caFile := filepath.Join(t.TempDir(), "ca.crt")
	trusted, foreign := newAuthority(t, "trusted"), newAuthority(t, "foreign")
	writeFile(t, caFile, trusted.pem)
	s := certified(t, caFile, "falco-node-1")
	spiffe := &url.URL{Scheme: "spiffe", Host: "example.com", Path: "/sensor"}

	good := trusted.client("falco-node-1", nil)
	s.with(&good)
	s.eventually("the right is granted", func() bool { return s.post("falco", falcoBody(t)).status/100 == 2 })
	if got := s.onlyEvent().Spec.SubmittedBy; got != "falco-node-1" {
		t.Errorf("submittedBy %q, want the certificate's name", got)
	}
	byURI := trusted.client("", func(c *x509.Certificate) { c.URIs, c.Subject.Organization = []*url.URL{spiffe}, []string{"sensors"} })
	s.with(&byURI)
	name := s.post("falco", falcoBody(t)).want(t, http.StatusCreated).Name
	for _, event := range s.events() {
		if event.Name == name && event.Spec.SubmittedBy != "spiffe://example.com/sensor" {
			t.Errorf("submittedBy %q, want the certificate's URI", event.Spec.SubmittedBy)
		}
	}

	for what, test := range map[string]struct {
		by     *authority
		name   string
		change func(*x509.Certificate)
		status int
		says   string
	}{
		"no right":       {trusted, "somebody", nil, http.StatusForbidden, "'somebody'"},
		"foreign":        {foreign, "falco-node-1", nil, http.StatusUnauthorized, "--client-ca-file"},
		"ended":          {trusted, "falco-node-1", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, http.StatusUnauthorized, "valid now"},
		"of a server":    {trusted, "falco-node-1", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, http.StatusUnauthorized, "for clients"},
		"nameless":       {trusted, "", nil, http.StatusUnauthorized, "common name"},
		"reserved user":  {trusted, "system:serviceaccount:kube-system:x", nil, http.StatusUnauthorized, "'system:'"},
		"reserved group": {trusted, "x", func(c *x509.Certificate) { c.Subject.Organization = []string{"system:masters"} }, http.StatusUnauthorized, "'system:'"},
		"long name":      {trusted, strings.Repeat("x", maxName+1), nil, http.StatusUnauthorized, "at most 253"},
		"hostile name":   {trusted, "falco\u202enode", nil, http.StatusUnauthorized, "printable"},
	} {
		bad := test.by.client(test.name, test.change)
		s.with(&bad)
		r := s.post("falco", falcoBody(t)).want(t, test.status)
		if !strings.Contains(r.Problem.Detail, test.says) {
			t.Errorf("%s: told %q, want it to say %q", what, r.Problem.Detail, test.says)
		}
	}
	s.with(nil)
	s.post("falco", falcoBody(t)).wantProblem(t, http.StatusUnauthorized, "unauthenticated", "client certificate")

	// The file changes: who signs now is believed, who signed before no more.
	writeFile(t, caFile, foreign.pem)
	other := foreign.client("falco-node-1", nil)
	s.with(&other)
	s.eventually("the new authority counts", func() bool { return s.post("falco", falcoBody(t)).status == http.StatusOK })
	s.with(&good)
	s.eventually("the old authority counts no more", func() bool { return s.post("falco", falcoBody(t)).status == http.StatusUnauthorized })
}
