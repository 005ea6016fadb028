package turn

import (
	"crypto/hkdf"
	"crypto/sha256"
	"os"
	"path/filepath"
	"time"

	relay "inbox/turn"
)

type credentials = relay.Credentials

// expiringCredentials returns credentials that the server accepts, but only for a while: as
// if it had issued them earlier. The server derives the key from the secret in its state
// directory.
func (s *server) expiringCredentials(left time.Duration) (credentials, error) {
	secret, err := os.ReadFile(filepath.Join(s.state, "secret"))
	if err != nil {
		return credentials{}, err
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "turn", sha256.Size)
	if err != nil {
		return credentials{}, err
	}
	past := func() time.Time { return time.Now().Add(left - relay.CredentialLifetime) }
	issuer, err := relay.New(relay.Config{Secret: key, Now: past})
	if err != nil {
		return credentials{}, err
	}
	return issuer.Credentials("a call", relay.Payer{}), issuer.Close()
}
