package receiver

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/firebreak-dev/firebreak/api/v1alpha1"
)

// credential is what a sender shows: a token, or else a certificate whose key the
// sender has proved to hold. It is nowhere logged or echoed.
type credential struct {
	token         string
	certificate   *x509.Certificate
	intermediates []*x509.Certificate
	// address is where the request comes from.
	address string
}

// credentialOf takes the credential from a request. A token goes before a certificate.
func credentialOf(r *http.Request) (*credential, error) {
	c := &credential{address: r.RemoteAddr}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		c.address = host
	}
	header := r.Header.Get("Authorization")
	if header == "" && r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		c.certificate, c.intermediates = r.TLS.PeerCertificates[0], r.TLS.PeerCertificates[1:]
		return c, nil
	}
	scheme, token, _ := strings.Cut(header, " ")
	if c.token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || c.token == "" {
		return nil, unauthenticated("The request must have the header `Authorization: Bearer TOKEN`, with a token for the audience '" +
			v1alpha1.ReceiverAudience + "', or come with a client certificate.")
	}
	return c, nil
}

// key stands for a credential and a namespace, without giving the credential away.
func (c *credential) key(namespace string) string {
	var sum [sha256.Size]byte
	if c.certificate != nil {
		sum = sha256.Sum256(append([]byte("certificate "), c.certificate.Raw...))
	} else {
		sum = sha256.Sum256([]byte(c.token))
	}
	return string(sum[:]) + namespace
}

// expires is when a credential ends, as it says itself; zero when it does not. Whoever
// asks has had it verified before.
func (c *credential) expires() time.Time {
	if c.certificate != nil {
		return c.certificate.NotAfter
	}
	parts := strings.Split(c.token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}
	}
	var claims struct {
		Expires float64 `json:"exp"`
	}
	if json.Unmarshal(raw, &claims) != nil || claims.Expires <= 0 {
		return time.Time{}
	}
	return time.Unix(int64(claims.Expires), 0)
}
