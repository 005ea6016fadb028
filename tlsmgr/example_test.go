package tlsmgr_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"

	"inbox/tlsmgr"
)

// A server uses the TLS configuration of its source and runs the source in the background.
func ExampleNew() {
	source, err := tlsmgr.New(tlsmgr.Config{CertFile: "server.crt", KeyFile: "server.key"})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go source.Run(ctx)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler()}
	defer server.Close()
	go server.Serve(tls.NewListener(listener, source.TLSConfig()))

	fmt.Println(source.State()[0].Name, "is served from a", source.State()[0].Source, "certificate")
	// Output: localhost is served from a self-signed certificate
}

// Plain HTTP redirects page requests to https and rejects requests with passwords.
func ExampleRedirect() {
	port80 := tlsmgr.Redirect([]string{"example.org"}, 443)
	for _, path := range []string{"/send.html", "/inbox"} {
		recorder := httptest.NewRecorder()
		port80.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "http://example.org"+path, nil))
		fmt.Println(recorder.Code, recorder.Header().Get("Location"))
	}
	// Output:
	// 308 https://example.org/send.html
	// 403
}
