package main

// Authorities to trust where the system has none, as in a bare container: the
// server could otherwise not speak to the authority that certifies it.
import _ "golang.org/x/crypto/x509roots/fallback"
