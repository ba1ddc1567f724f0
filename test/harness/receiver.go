package harness

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

var (
	managerKey  = types.NamespacedName{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.ManagerServiceAccount}
	receiverKey = types.NamespacedName{Namespace: v1alpha1.SystemNamespace, Name: v1alpha1.ReceiverServiceAccount}
)

const postTimeout = 2 * time.Minute

// ReceiverProcess is a receiver that runs.
type ReceiverProcess struct {
	*Process
	// URL is where it listens, such as 'https://127.0.0.1:1234'.
	URL string
	// HTTP trusts its certificate.
	HTTP *http.Client
}

// StartReceiver starts the receiver with the token of its ServiceAccount and a
// certificate of its own, and waits until it is ready. Later flags win over the usual ones.
func (c *Cluster) StartReceiver(t testing.TB, flags ...string) *ReceiverProcess {
	t.Helper()
	certificate, key, pool := servingCertificate(t)
	address, health := FreeAddress(t), FreeAddress(t)
	process := c.start(t, "receiver", health, slices.Concat([]string{
		"--kubeconfig=" + c.Kubeconfig(t, receiverKey.Namespace, receiverKey.Name),
		"--bind-address=" + address,
		"--shutdown-delay=0", // nobody here needs to hear of its end
		"--tls-cert-file=" + certificate,
		"--tls-private-key-file=" + key,
		"--health-probe-bind-address=" + health,
		"--name=receiver-0",
	}, flags))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	return &ReceiverProcess{
		Process: process, URL: "https://" + address,
		HTTP: &http.Client{Transport: transport, Timeout: postTimeout},
	}
}

// Answer is what the receiver answers.
type Answer struct {
	// Code is the HTTP status.
	Code int
	// Header is the HTTP header.
	Header http.Header
	// Body is the text.
	Body string
}

// Post sends an alert to a domain in a format, such as 'falco', and gives the answer.
func (r *ReceiverProcess) Post(t testing.TB, namespace, format, token string, body []byte) Answer {
	t.Helper()
	answer, err := r.Send(t, namespace, format, token, body)
	if err != nil {
		t.Fatalf("posting to the receiver: %v", err)
	}
	return answer
}

// Send is Post for where the receiver may not answer at all.
func (r *ReceiverProcess) Send(t testing.TB, namespace, format, token string, body []byte) (Answer, error) {
	t.Helper()
	url := fmt.Sprintf("%s/v1/namespaces/%s/%s", r.URL, namespace, format)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return Answer{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := r.HTTP.Do(request)
	if err != nil {
		return Answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return Answer{Code: response.StatusCode, Header: response.Header, Body: string(text)}, err
}

// servingCertificate writes a certificate for this machine and gives what trusts it.
func servingCertificate(t testing.TB) (certificateFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "receiver"},
		NotBefore:    time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	dir := t.TempDir()
	certificateFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for path, content := range map[string][]byte{
		certificateFile: certificate,
		keyFile:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certificate)
	return certificateFile, keyFile, pool
}
