package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// checkSource reports which certificate the server uses, and why.
func (e *examination) checkSource(context.Context) []Finding {
	switch {
	case !e.HTTPS:
		return []Finding{good("", "Plain HTTP, because of -https=false. "+
			"Browsers give pages access to the camera only on localhost or behind a proxy with HTTPS.")}
	case len(e.Domains) > 0:
		text := fmt.Sprintf("Certificates from %s for %s, because of -domain.", strings.Join(e.caURLs(), ", else "), strings.Join(e.Domains, ", "))
		if e.hasCertFiles() {
			text += fmt.Sprintf(" Until they are obtained, %s is used for the names that it covers.", e.CertFile)
		}
		return []Finding{good("", text)}
	case e.hasCertFiles():
		return []Finding{good("", fmt.Sprintf("The certificate in %s, because it exists and -domain is not set.", e.CertFile))}
	}
	const text = "A self-signed certificate for development, because -domain is not set and %s does not exist. Browsers show a warning."
	return []Finding{good("", fmt.Sprintf(text, e.CertFile))}
}

// hasCertFiles reports whether one of the two files exists, readable or not.
func (e *examination) hasCertFiles() bool { return exists(e.CertFile) || exists(e.KeyFile) }

func exists(path string) bool {
	if path == "" {
		return false
	}
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
