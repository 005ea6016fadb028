// Command node serves one name with a certificate from a CA. The tests start several of
// these processes, kill them, and make their writes fail.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"inbox/tlsmgr"
	"inbox/tlsmgr/acme"
	"inbox/tlsmgr/acme/autocert"
	"inbox/tlsmgr/acme/certmagic"
)

func main() {
	c := tlsmgr.Config{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	a := &c.ACME
	name := flag.String("name", "", "host name of the certificate")
	full := flag.Bool("full", false, "fail every write, as on a full disk")
	flag.StringVar(&c.StateDir, "state", "", "state directory")
	flag.StringVar(&c.CertFile, "cert", "", "certificate file")
	flag.StringVar(&c.KeyFile, "key", "", "key file")
	engine := flag.String("engine", "certmagic", "ACME engine: certmagic or autocert")
	flag.StringVar(&a.CA.URL, "ca", "", "directory URL of the CA")
	flag.StringVar(&a.CA.RootsFile, "roots", "", "file of root certificates for the CA's server")
	flag.IntVar(&a.HTTPPort, "http", 0, "plain HTTP port")
	flag.IntVar(&a.TLSPort, "tls", 0, "TLS port")
	flag.Parse()
	c.Domains = []string{*name}
	a.Engine = map[string]acme.EngineFactory{"certmagic": certmagic.New, "autocert": autocert.New}[*engine]
	a.Agreed, a.ListenHost = true, "127.0.0.1"
	if err := run(c, *full); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(c tlsmgr.Config, full bool) error {
	if full {
		if err := fillDisk(); err != nil {
			return err
		}
	}
	source, err := tlsmgr.New(c)
	if err != nil {
		return err
	}
	httpListener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", c.ACME.HTTPPort))
	if err != nil {
		return err
	}
	tlsListener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", c.ACME.TLSPort))
	if err != nil {
		return err
	}
	quiet := log.New(io.Discard, "", 0)
	redirect := &http.Server{Handler: source.HTTPHandler(tlsmgr.Redirect(tlsmgr.RedirectConfig{Domains: c.Domains, HTTPSPort: c.ACME.TLSPort, APIPaths: []string{"/inbox"}})), ErrorLog: quiet}
	page := &http.Server{Handler: http.NotFoundHandler(), ErrorLog: quiet}
	go redirect.Serve(httpListener)
	go page.Serve(tls.NewListener(tlsListener, source.TLSConfig()))
	c.Logger.Info("listening", "addr", tlsListener.Addr().String())
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return source.Run(ctx)
}

// fillDisk limits the file size to zero, so that every write to a file fails.
func fillDisk() error {
	signal.Ignore(syscall.SIGXFSZ)
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{})
}
