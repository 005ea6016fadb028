package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// checkSource says which certificate serves and why, by the rules that the
// server itself follows.
func (e *examination) checkSource(context.Context) []Finding {
	switch {
	case !e.HTTPS:
		return []Finding{good("", "Plain HTTP, because of -https=false: "+
			"browsers give a page the camera only on localhost or behind a proxy that speaks HTTPS.")}
	case len(e.Domains) > 0:
		text := fmt.Sprintf("Certificates from %s for %s, because of -domain.", strings.Join(e.caURLs(), ", else "), strings.Join(e.Domains, ", "))
		if e.hasCertFiles() {
			text += fmt.Sprintf(" Until there is one, %s serves the names that it covers.", e.CertFile)
		}
		return []Finding{good("", text)}
	case e.hasCertFiles():
		return []Finding{good("", fmt.Sprintf("The certificate in %s, because it exists and no -domain is given.", e.CertFile))}
	}
	const text = "A self-signed certificate for development, because there is neither -domain nor %s. Browsers warn of it."
	return []Finding{good("", fmt.Sprintf(text, e.CertFile))}
}

// hasCertFiles is whether one of the two files is there, even if it cannot be read.
func (e *examination) hasCertFiles() bool { return exists(e.CertFile) || exists(e.KeyFile) }

func exists(path string) bool {
	if path == "" {
		return false
	}
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
