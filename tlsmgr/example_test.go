package tlsmgr_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"

	"inbox/tlsmgr"
	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/certmagic"
)

// A server uses the TLS configuration of its manager and runs the manager in the background.
func ExampleNew() {
	manager, err := tlsmgr.New(tlsmgr.Config{CertFile: "server.crt", KeyFile: "server.key"})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go manager.Run(ctx)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	defer server.Close()
	go server.Serve(tls.NewListener(listener, manager.TLSConfig()))

	fmt.Println(manager.State()[0].Name, "is served from a", manager.State()[0].Source, "certificate")
	// Output: localhost is served from a self-signed certificate
}

// Plain HTTP redirects page requests to https and rejects requests with passwords.
func ExampleRedirect() {
	port80 := tlsmgr.Redirect(tlsmgr.RedirectConfig{Domains: []string{"example.org"}, HTTPSPort: 443, APIPaths: []string{"/inbox"}})
	for _, path := range []string{"/send.html", "/inbox"} {
		recorder := httptest.NewRecorder()
		port80.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "http://example.org"+path, nil))
		fmt.Println(recorder.Code, recorder.Header().Get("Location"))
	}
	// Output:
	// 308 https://example.org/send.html
	// 403
}

// With domains, an engine obtains certificates from a CA. Importing package autocert
// instead of certmagic selects the other library.
func ExampleNew_domains() {
	_, err := tlsmgr.New(tlsmgr.Config{
		Domains:  []string{"example.org"},
		StateDir: "/var/lib/example",
		ACME:     acme.Config{Engine: certmagic.New, Email: "not an address"},
	})
	fmt.Println(errors.Is(err, tlsmgr.ErrUsage), err)
	// Output: true cannot be configured like this: invalid e-mail address "not an address"; use the form me@example.org
}
