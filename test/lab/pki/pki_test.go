package pki

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

func parse(t *testing.T, b []byte) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode(b)
	if block == nil || len(rest) != 0 {
		t.Fatalf("not one PEM block: %q", b)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestIssuedCertificateVerifiesForItsNamesOnly(t *testing.T) {
	ca, err := NewAuthority("lab-ca")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(Request{
		CommonName:    "system:node:node1",
		Organizations: []string{"system:nodes"},
		Names:         []string{"node1"},
		Addresses:     []netip.Addr{netip.MustParseAddr("10.250.0.11"), netip.MustParseAddr("fd00:250::11")},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(pair.Cert, pair.Key); err != nil {
		t.Fatalf("key does not belong to certificate: %v", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parse(t, ca.Pair.Cert))
	cert := parse(t, pair.Cert)
	for name, wantOK := range map[string]bool{
		"node1": true, "10.250.0.11": true, "fd00:250::11": true, "node2": false, "10.250.0.12": false,
	} {
		_, err := cert.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		if (err == nil) != wantOK {
			t.Errorf("verify for %s: %v, want ok=%v", name, err, wantOK)
		}
	}
	if got := cert.Subject.Organization; len(got) != 1 || got[0] != "system:nodes" {
		t.Errorf("groups %v", got)
	}
	other, err := NewAuthority("other")
	if err != nil {
		t.Fatal(err)
	}
	foreign := x509.NewCertPool()
	foreign.AddCert(parse(t, other.Pair.Cert))
	if _, err := cert.Verify(x509.VerifyOptions{DNSName: "node1", Roots: foreign}); err == nil {
		t.Error("verified against a foreign authority")
	}
}

func TestPublicKeyMatchesCertificate(t *testing.T) {
	ca, err := NewAuthority("lab-ca")
	if err != nil {
		t.Fatal(err)
	}
	b, err := ca.Pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatalf("not PEM: %q", b)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := key.(*ecdsa.PublicKey)
	if !ok || !got.Equal(parse(t, ca.Pair.Cert).PublicKey) {
		t.Error("public key differs from the certificate's")
	}
}

func TestKubeconfigLoads(t *testing.T) {
	ca, err := NewAuthority("lab-ca")
	if err != nil {
		t.Fatal(err)
	}
	admin, err := ca.Issue(Request{CommonName: "admin", Organizations: []string{"system:masters"}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := Kubeconfig("https://10.250.0.10:6443", ca.Pair, admin)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := clientcmd.RESTConfigFromKubeConfig(b)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Host != "https://10.250.0.10:6443" || string(cfg.CertData) != string(admin.Cert) || string(cfg.CAData) != string(ca.Pair.Cert) {
		t.Errorf("unexpected config %v", cfg)
	}
}
