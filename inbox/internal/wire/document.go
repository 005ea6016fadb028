package wire

import "net/http"

// Document is a response that a frame contains. As frames have no fields, Retry-After is a member of
// the problem document. It implements [http.ResponseWriter].
type Document struct {
	Status int
	Body   []byte
	header http.Header
}

// Header implements [http.ResponseWriter].
func (d *Document) Header() http.Header {
	if d.header == nil {
		d.header = http.Header{}
	}
	return d.header
}

// WriteHeader implements [http.ResponseWriter].
func (d *Document) WriteHeader(status int) { d.Status = status }

// Write implements [http.ResponseWriter].
func (d *Document) Write(b []byte) (int, error) {
	d.Body = append(d.Body, b...)
	return len(b), nil
}

// RetryAfter returns the field Retry-After, or "".
func (d *Document) RetryAfter() string { return d.header.Get("Retry-After") }
