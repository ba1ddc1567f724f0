package cluster

import (
	"context"
	"fmt"
	"os"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

func (c *Cluster) writeKubeconfigs() error {
	if _, err := c.ports.get(string(APIServer)); err != nil {
		return err
	}
	for path, pair := range map[string]Pair{
		c.Kubeconfig(): c.pki.admin,
		c.config(string(ControllerManager) + ".kubeconfig"): c.pki.controllerManager,
		c.config(string(Scheduler) + ".kubeconfig"):         c.pki.scheduler,
		c.config(string(Kwok) + ".kubeconfig"):              c.pki.kwok,
	} {
		certificate, err := os.ReadFile(pair.Certificate)
		if err != nil {
			return err
		}
		key, err := os.ReadFile(pair.Key)
		if err != nil {
			return err
		}
		user := &clientcmdapi.AuthInfo{ClientCertificateData: certificate, ClientKeyData: key}
		if err := c.writeKubeconfig(path, user); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) writeKubeconfig(path string, user *clientcmdapi.AuthInfo) error {
	ca, err := os.ReadFile(c.pki.CertificateFile())
	if err != nil {
		return err
	}
	const name = "firebreak-dev"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: c.Server(), CertificateAuthorityData: ca}
	config.AuthInfos[name] = user
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	return clientcmd.WriteToFile(*config, path)
}

// Token asks for a ServiceAccount's token. Without audiences it is for the API
// server.
func (c *Cluster) Token(ctx context.Context, account types.NamespacedName, lifetime time.Duration, audiences ...string) (string, error) {
	config, err := c.RESTConfig()
	if err != nil {
		return "", err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return "", err
	}
	seconds := int64(lifetime / time.Second)
	request := &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{Audiences: audiences, ExpirationSeconds: &seconds},
	}
	response, err := client.CoreV1().ServiceAccounts(account.Namespace).CreateToken(ctx, account.Name, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("asking for a token of the ServiceAccount %s: %w", account, err)
	}
	return response.Status.Token, nil
}

// ServiceAccountKubeconfig writes a kubeconfig that is nobody but that
// ServiceAccount. Its token lies beside it, in path + ".token": written anew by
// every call, and read anew every minute by those who use it.
func (c *Cluster) ServiceAccountKubeconfig(ctx context.Context, account types.NamespacedName, path string) error {
	token, err := c.Token(ctx, account, 24*time.Hour)
	if err != nil {
		return err
	}
	tokenFile := path + ".token"
	if err := os.WriteFile(tokenFile, []byte(token), 0o600); err != nil {
		return err
	}
	return c.writeKubeconfig(path, &clientcmdapi.AuthInfo{TokenFile: tokenFile})
}
