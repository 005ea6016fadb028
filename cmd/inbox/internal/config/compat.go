package config

import (
	"fmt"
	"slices"
	"strings"

	"inbox/cmd/inbox/internal/nearest"
)

// compatProtocols are the values of -compat.
var compatProtocols = []string{"peerjs", "topics"}

// resolveCompat reads the list of protocols. Case does not count.
func (r *resolver) resolveCompat() error {
	for _, name := range splitList(r.o.compat) {
		protocol := strings.ToLower(name)
		if !slices.Contains(compatProtocols, protocol) {
			return r.o.optionError("compat", fmt.Errorf("%q is not a protocol that is served: must be a list of %s%s",
				name, strings.Join(compatProtocols, ", "), didYouMean(nearest.Of(protocol, compatProtocols...))))
		}
		if !slices.Contains(r.c.Compat, protocol) {
			r.c.Compat = append(r.c.Compat, protocol)
		}
	}
	return nil
}
